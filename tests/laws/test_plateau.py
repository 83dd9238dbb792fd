from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bsopt.errors import ConfigError
from bsopt.laws import plateau

EPOCH = 1000  # samples
FLOATS = st.floats(0.01, 10.0, allow_nan=False)


def _noisy(level: np.ndarray, sd: float, seed: int) -> np.ndarray:
    return level + sd * np.random.default_rng(seed).standard_normal(len(level))


def _share_of_plateaus(level: np.ndarray, *, sd: float, patience: float) -> float:
    steps = EPOCH * np.arange(1, len(level) + 1)
    curves = (_noisy(level, sd, seed) for seed in range(60))
    return float(np.mean([plateau.plateau_test(steps, y, patience=patience).is_plateau for y in curves]))


def test_a_noisy_flat_curve_is_a_plateau_although_it_sets_records() -> None:
    flat = np.ones(40)
    assert _share_of_plateaus(flat, sd=0.05, patience=10 * EPOCH) > 0.85
    by_keras = [
        plateau.flat_for(range(40), _noisy(flat, 0.05, s), patience=10, rule="keras") is not None for s in range(60)
    ]
    assert np.mean(by_keras) < 0.85  # any record counts as progress there


def test_a_slow_steady_curve_is_no_plateau_even_under_noise() -> None:
    slow = 1.0 - 0.01 * np.arange(40)  # a fifth of the noise per epoch
    assert _share_of_plateaus(slow, sd=0.05, patience=10 * EPOCH) < 0.1


@pytest.mark.parametrize("factor", [0.3, 0.5, 0.7])
def test_a_loss_that_falls_by_a_factor_at_each_report_is_no_plateau_until_it_stops(factor: float) -> None:
    falling = [factor**i for i in range(14)]
    for count in range(4, 15):
        assert not plateau.plateau_test(range(count), falling[:count], patience=3).is_plateau
    ended = [*falling, *[falling[-1]] * 4]
    assert plateau.plateau_test(range(18), ended, patience=3).is_plateau
    assert plateau.plateau_test(range(14), falling, patience=3, min_delta=0.5).is_plateau


def test_a_fall_that_ended_is_a_plateau_once_patience_has_passed() -> None:
    fallen = 0.5 + np.exp(-np.arange(40) / 2.0)
    assert _share_of_plateaus(fallen, sd=0.01, patience=5 * EPOCH) > 0.85


def test_a_curve_that_gets_worse_is_a_plateau() -> None:
    found = plateau.plateau_test(range(1, 9), [5, 4, 3, 3.2, 3.4, 3.7, 4.1, 4.6], patience=4)
    assert found.is_plateau
    assert found.best == 3
    assert found.best_step == 3
    assert found.flat_for == 5
    assert found.gain_per_patience < 0


def test_nothing_is_a_plateau_before_patience_was_observed() -> None:
    assert not plateau.plateau_test([1, 2, 3], [1.0, 1.0, 1.0], patience=3).is_plateau
    assert plateau.plateau_test([1, 2, 3, 4], [1.0, 1.0, 1.0, 1.0], patience=3).is_plateau


def test_min_delta_turns_small_gains_into_a_plateau() -> None:
    steps, values = np.arange(1.0, 20.0), 1.0 - 0.001 * np.arange(19)
    assert not plateau.plateau_test(steps, values, patience=5).is_plateau
    assert plateau.plateau_test(steps, values, patience=5, min_delta=0.01).is_plateau


def test_an_empty_curve_and_a_curve_of_nan_say_nothing() -> None:
    for steps, values in (([], []), ([1, 2], [float("nan")] * 2)):
        found = plateau.plateau_test(steps, values, patience=1)
        assert not found.is_plateau
        assert np.isnan(found.best)


@given(st.lists(FLOATS, min_size=2, max_size=30), st.integers(1, 10))
def test_the_verdict_ignores_direction_scale_units_and_missing_values(values: list[float], patience: int) -> None:
    steps = np.arange(len(values), dtype=float)
    plain = plateau.plateau_test(steps, values, patience=patience)
    mirrored = plateau.plateau_test(steps, -np.array(values), patience=patience, direction="maximize")
    scaled = plateau.plateau_test(1024 * steps, 4 * np.array(values), patience=1024 * patience)
    with_gap = plateau.plateau_test([*steps, 0.5], [*values, float("nan")], patience=patience)
    assert plain.is_plateau == mirrored.is_plateau == scaled.is_plateau == with_gap.is_plateau
    assert plain.best == -mirrored.best


@given(st.lists(st.integers(0, 50), min_size=4, max_size=30), st.integers(1, 5))
def test_a_plateau_never_holds_a_keras_improvement_on_curves_without_noise(drops: list[int], patience: int) -> None:
    values = list(1000.0 - np.cumsum(drops))
    found = plateau.plateau_test(range(len(values)), values, patience=patience)
    if found.is_plateau and found.noise == 0.0:
        assert values[-1] == values[-1 - patience]


def test_noise_is_estimated_whatever_the_smooth_part_and_the_spacing() -> None:
    rng = np.random.default_rng(0)
    steps = np.sort(rng.uniform(1, 100, 400))
    values = 1 / np.sqrt(steps) + 0.02 * rng.standard_normal(400)
    values[::50] += 3.0  # spikes
    assert plateau.noise_sd(steps, values) == pytest.approx(0.02, rel=0.2)


def test_keras_rule_needs_more_than_min_delta_and_keeps_the_old_reference() -> None:
    def flat(values: list[float], *, patience: float, min_delta: float = 0.0) -> float | None:
        return plateau.flat_for(range(len(values)), values, patience=patience, rule="keras", min_delta=min_delta)

    values = [1.0, 0.95, 0.91, 0.87]
    assert flat(values[:3], patience=2, min_delta=0.1) == 2
    assert flat(values[:3], patience=3, min_delta=0.1) is None
    assert flat(values, patience=1, min_delta=0.1) is None  # 0.87 is 0.1 below 1.0
    assert flat([1.0, float("nan"), 0.5], patience=2) is None


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(0.1, 5), min_size=1, max_size=25), st.integers(1, 4))
def test_relative_rule_counts_bad_epochs_as_pytorchs_scheduler_does(values: list[float], patience: int) -> None:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=1000, threshold=0.1)
    for value in values:
        scheduler.step(value)
    bad = scheduler.num_bad_epochs
    found = plateau.flat_for(range(len(values)), values, patience=patience, rule="relative", min_delta=0.1)
    assert found == (bad if bad >= patience else None)


def test_rises_over_every_third_of_patience_are_prechelts_third_rule() -> None:
    steps = range(1, 11)
    rising = [5, 4, 3, 2, 2.1, 2.2, 2.3, 2.4, 2.5, 2.6]
    assert plateau.flat_for(steps, rising, patience=6, rule="prechelt_up") == 6
    assert plateau.flat_for(steps, [*rising[:-1], 2.2], patience=6, rule="prechelt_up") is None


def test_generalization_loss_is_prechelts() -> None:
    assert plateau.generalization_loss([4.0, 2.0, float("nan"), 3.0])[[0, 1, 3]].tolist() == [0.0, 0.0, 50.0]
    with pytest.raises(ConfigError, match="1 - accuracy"):
        plateau.generalization_loss([1.0, -1.0])


def test_successive_rises_count_strips_from_the_end() -> None:
    assert plateau.successive_rises([3, 2, 1, 2, 3, 4, 5], strip=2) == 2
    assert plateau.successive_rises([1, 2, 3], strip=1) == 2
    assert plateau.successive_rises([1, 2, 1], strip=1) == 0
    assert plateau.successive_rises([1, 2], strip=1, direction="maximize") == 0
    assert plateau.successive_rises([1.0], strip=1) == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"patience": 0}, "patience must be a number above 0, got 0"),
        ({"patience": 1, "min_delta": -1}, "min_delta must be a number of at least 0, got -1"),
        ({"patience": 1, "direction": "minimise"}, "Did you mean 'minimize'"),
    ],
)
def test_mistakes_are_named(arguments: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        plateau.plateau_test([1.0], [1.0], **arguments)


def test_lengths_must_agree() -> None:
    with pytest.raises(ConfigError, match="one length"):
        plateau.plateau_test([1.0], [1.0, 2.0], patience=1)
