"""Synthetic surfaces know their optimum, and the contender is what a user gets."""

from __future__ import annotations

import math

import numpy as np
import optuna
import pytest

from bsopt.errors import ConfigError
from bsopt.search.pruner import PlateauPruner
from bsopt.search.sampler import ScalingSampler
from bsopt.testing.surfaces import FAMILIES, contender, noisy_quadratic, replay, synthetic

optuna.logging.set_verbosity(optuna.logging.ERROR)


def test_contender_prunes_only_where_trials_report() -> None:
    sampler, pruner, _ = contender("adam", 3, None)
    assert isinstance(sampler, ScalingSampler)
    assert pruner is None
    assert isinstance(contender("sgd", 3, 52000)[1], PlateauPruner)


def test_one_dimension_of_the_quadratic_follows_its_closed_form() -> None:
    lr, updates, noise, size = 0.3, 5, 0.7, 4
    expected = 1.0
    for _ in range(updates):
        expected = (1 - lr) ** 2 * expected + lr**2 * noise / size
    value = noisy_quadratic(size, lr, num_samples=updates * size, noise=noise, num_dimensions=1)
    assert value == pytest.approx(0.5 * expected)


def test_quadratics_best_learning_rate_rises_with_the_batch_size_and_saturates() -> None:
    rates = np.geomspace(1e-4, 2.0, 400)
    best = [
        rates[np.argmin([noisy_quadratic(size, lr, num_samples=1e5, noise=5.0) for lr in rates])]
        for size in (8, 64, 512, 4096)
    ]
    slopes = np.diff(np.log2(best)) / 3
    assert slopes[0] > 0.3
    assert slopes[0] > slopes[2] >= -0.05


def test_quadratic_diverges_above_twice_the_inverse_curvature() -> None:
    assert noisy_quadratic(8, 2.5, num_samples=1e5) == 1e6
    assert noisy_quadratic(8, 1.0, num_samples=1e5) < 10


@pytest.mark.parametrize("family", list(FAMILIES))
def test_no_random_point_beats_the_known_best_by_much(family: str) -> None:
    surface = synthetic(family, 4)
    rng = np.random.default_rng(0)
    assert surface.regret(surface.value(surface.best_params)) == pytest.approx(0.0, abs=0.02)
    for _ in range(200):
        params = {
            "batch_size": 2 ** int(rng.integers(3, 12)),
            "lr": float(np.exp(rng.uniform(*np.log(surface.lr)))),
            "momentum": float(rng.uniform(0.5, 0.98)),
            "weight_decay": float(10 ** rng.uniform(-6, -2)),
            "activation": "relu",
        }
        assert surface.regret(surface.value(params)) > -0.02


def test_narrowed_range_keeps_the_best_and_most_octaves() -> None:
    surface = synthetic("basin", 1)
    for seed in range(20):
        low, high = surface.narrowed(seed)
        assert surface.lr[0] * 0.999 <= low <= surface.best_params["lr"] <= high <= surface.lr[1] * 1.001
        assert math.log2(high / low) >= 0.599 * math.log2(surface.lr[1] / surface.lr[0])


def test_unknown_family_suggests_the_nearest() -> None:
    with pytest.raises(ConfigError, match="Did you mean 'basin'"):
        synthetic("basins", 0)


def test_regrets_never_rise_without_noise_and_count_every_trial() -> None:
    for workers in (1, 4):
        found = replay(
            optuna.samplers.RandomSampler(seed=0), synthetic("basin", 0), seed=0, num_trials=10, workers=workers
        )
        regrets = found.regrets
        assert found.told == (regrets[4], regrets[9])  # of what looks best, where the sampler has no better answer
        assert len(regrets) == 10
        assert (np.diff(regrets) <= 0).all()


@pytest.mark.slow
def test_sampler_beats_random_search_on_surfaces_it_shares_nothing_with() -> None:
    ours, theirs = [], []
    for seed in range(4, 8):
        surface = synthetic("quadratic", seed)
        ours.append(replay(contender("sgd", seed)[0], surface, seed=seed, num_trials=12).regrets[-1])
        theirs.append(replay(optuna.samplers.RandomSampler(seed=seed), surface, seed=seed, num_trials=12).regrets[-1])
    assert np.mean(ours) < 0.5 * np.mean(theirs)


@pytest.mark.parametrize("hazard", ["diverge", "memory"])
def test_hazards_leave_trials_without_a_value_and_the_best_within_reach(hazard: str) -> None:
    surface = synthetic("basin", 0)
    sampler = optuna.samplers.RandomSampler(seed=0)
    regrets = replay(sampler, surface, seed=0, num_trials=12, hazard=hazard).regrets
    assert len(regrets) == 12
    assert regrets[0] >= regrets[-1] >= 0.0
    with pytest.raises(ConfigError, match="hazard must be one of"):
        replay(sampler, surface, seed=0, num_trials=1, hazard="flood")


def test_a_memory_limit_moves_the_best_below_it() -> None:
    surface = synthetic("basin", 0)
    below = surface.up_to(surface.best_params["batch_size"] // 2)
    assert below.best_params["batch_size"] < surface.best_params["batch_size"]
    assert below.best > surface.best
