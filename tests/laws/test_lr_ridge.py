"""lr*(B) is recovered from synthetic trials, and said not to be known where it isn't."""

from __future__ import annotations

import json
import math
import re

import numpy as np
import pytest

from bsopt.laws.estimate import FitStatus
from bsopt.laws.lr_ridge import LrRidgeFit, fit_lr_ridge, read_ridge
from bsopt.laws.surface_prior import ridge_prior
from bsopt.laws.value_surface import RidgePoint, fit_values
from bsopt.serialization import from_plain, to_plain

LR_RANGE = (2.0**-12, 2.0**-1)


def ridge(log_b: float, *, exponent: float = 0.8, knee: float = 8.0) -> float:
    """log2 lr*(B) of the synthetic law."""
    return -7.0 - exponent * (np.logaddexp2(0.0, knee - log_b) - np.logaddexp2(0.0, knee - 5.0))


def trials(num: int = 30, *, noise: float = 0.003, seed: int = 0, exponent: float = 0.8) -> list[RidgePoint]:
    rng = np.random.default_rng(seed)
    found = []
    for b, x in zip(rng.integers(3, 11, num), rng.uniform(-12, -1, num), strict=True):
        u = x - ridge(float(b), exponent=exponent)
        value = 1.0 + 0.03 * u**2 + 0.003 * (b - 6) ** 2 + noise * rng.standard_normal()
        found.append(RidgePoint(2.0 ** float(b), 2.0**x, value))
    return found


@pytest.fixture(scope="module")
def fit() -> LrRidgeFit:
    return fit_lr_ridge(trials(), lr_range=LR_RANGE)


def test_best_learning_rate_is_recovered_within_half_an_octave(fit: LrRidgeFit) -> None:
    assert fit.status is FitStatus.OK
    for b in range(3, 11):
        found = fit.predict(2.0**b)
        assert found is not None
        assert abs(math.log2(found.lr.value) - ridge(b)) < 0.6


@pytest.mark.slow
def test_intervals_cover_the_true_ridge_as_often_as_they_say() -> None:
    covered = []
    for seed in range(8):
        own = fit_lr_ridge(trials(24, seed=seed), lr_range=LR_RANGE)
        for b in (4, 6, 8, 10):
            found = own.predict(2.0**b)
            assert found is not None
            covered.append(2.0 ** ridge(b) in found.lr)
    assert 0.8 <= np.mean(covered) <= 1.0


def test_exponent_separates_linear_from_constant() -> None:
    straight = fit_lr_ridge(trials(40, exponent=0.0), lr_range=LR_RANGE)
    verdicts = {verdict.rule: verdict.is_compatible for verdict in straight.rules()}
    assert verdicts == {"linear": False, "sqrt": False, "none": True}


def test_batch_size_never_run_gets_a_wider_interval(fit: LrRidgeFit) -> None:
    inside, beyond = fit.predict(64), fit.predict(2.0**15)
    assert inside is not None
    assert beyond is not None
    assert beyond.is_extrapolated
    assert not inside.is_extrapolated
    assert beyond.lr.high / beyond.lr.low > inside.lr.high / inside.lr.low


def test_diverged_trials_inform_without_stretching_the_scale() -> None:
    points = trials()
    diverged = [RidgePoint(64, 0.45, math.inf), RidgePoint(64, 0.4, math.nan), RidgePoint(256, 0.5, 1e9)]
    found = fit_lr_ridge(points + diverged, lr_range=LR_RANGE).predict(64)
    assert found is not None
    assert abs(math.log2(found.lr.value) - ridge(6)) < 0.6
    assert found.stable_high < 0.4


def test_values_may_be_maximised_and_are_predicted_in_their_unit(fit: LrRidgeFit) -> None:
    negative = [RidgePoint(p.batch_size, p.lr, -p.value) for p in trials()]
    mirrored = fit_lr_ridge(negative, direction="maximize", lr_range=LR_RANGE)
    here, there = fit.predict(64), mirrored.predict(64)
    assert here is not None
    assert there is not None
    assert there.lr.value == pytest.approx(here.lr.value)
    assert there.value.value == pytest.approx(-here.value.value)
    assert here.value.value == pytest.approx(1.0, abs=0.03)
    assert there.value.low <= there.value.value <= there.value.high


def test_fit_is_the_same_every_time(fit: LrRidgeFit) -> None:
    assert fit_lr_ridge(trials(), lr_range=LR_RANGE) == fit


def test_fit_survives_storage_as_json(fit: LrRidgeFit) -> None:
    assert from_plain(LrRidgeFit, json.loads(json.dumps(to_plain(fit)))) == fit


def test_few_trials_give_a_sentence_and_no_number() -> None:
    few = fit_lr_ridge(trials(4))
    assert few.status is FitStatus.TOO_FEW
    assert few.predict(64) is None
    assert "4 finished trials" in few.message


@pytest.mark.parametrize(
    ("num", "said"), [(0, "there is no finished trial."), (1, "there is 1 finished trial at 1 learning rate.")]
)
def test_a_sentence_on_few_trials_counts_them_as_people_do(num: int, said: str) -> None:
    assert fit_lr_ridge(trials(num)).message.endswith(said)


def test_diverged_trials_dont_make_up_for_too_few_that_finished() -> None:
    points = [*trials(4), *(RidgePoint(64, 0.1 * k, math.nan) for k in (1, 2, 3, 4))]
    surface = fit_values(points, ridge=ridge_prior("sgd", None, None))
    assert read_ridge(surface).status is FitStatus.TOO_FEW


def test_nothing_at_all_is_too_few() -> None:
    assert fit_lr_ridge([]).status is FitStatus.TOO_FEW


def test_pure_noise_is_not_called_an_optimum() -> None:
    rng = np.random.default_rng(3)
    sizes, rates = rng.integers(3, 11, 60), rng.uniform(-12, -1, 60)
    points = [RidgePoint(2.0**b, 2.0**x, rng.normal()) for b, x in zip(sizes, rates, strict=True)]
    assert fit_lr_ridge(points, lr_range=LR_RANGE).status is not FitStatus.OK


def test_where_many_learning_rates_are_as_good_no_more_trials_are_asked_for() -> None:
    rng = np.random.default_rng(1)
    sizes, rates = rng.integers(3, 11, 60), rng.uniform(-12, -1, 60)
    values = 1.0 + 0.3 * np.maximum(rates + 3.0, 0.0) ** 2 + 0.02 * rng.standard_normal(60)
    points = [RidgePoint(2.0**b, 2.0**x, v) for b, x, v in zip(sizes, rates, values, strict=True)]
    found = fit_lr_ridge(points, lr_range=(2.0**-12, 0.5))
    assert found.status is FitStatus.OK
    assert "are about as good" in found.message
    assert found.rules() == ()


def test_a_best_rate_at_the_last_one_tried_may_lie_beyond() -> None:
    points = [p for p in trials(80) if p.lr < 2.0**-9 and p.batch_size >= 128]
    found = fit_lr_ridge(points, lr_range=LR_RANGE).predict(512)
    assert found is not None
    assert found.lr.value <= max(p.lr for p in points) < found.lr.high


def test_a_better_rate_beyond_those_tried_is_told_where_it_was_searched() -> None:
    points = [p for p in trials(80) if p.lr < 2.0**-7]
    found = fit_lr_ridge(points, lr_range=LR_RANGE)
    small, large = found.predict(8), found.predict(1024)
    assert small is not None
    assert large is not None
    assert small.beyond is None
    assert large.beyond is not None
    assert max(p.lr for p in points) < large.beyond <= LR_RANGE[1]
    told, anywhere = found.sample_values([8, 1024]), found.sample_values([8, 1024], anywhere=True)
    assert told is not None
    assert anywhere is not None
    assert (told[:, 0] == anywhere[:, 0]).all()
    assert np.median(anywhere[:, 1]) < np.median(told[:, 1])
    assert np.std(anywhere[:, 1]) > 2 * np.std(told[:, 1])
    not_searched = fit_lr_ridge(points, lr_range=(LR_RANGE[0], 2.0**-7)).predict(1024)
    assert not_searched is not None
    assert not_searched.beyond is None


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1])
def test_the_told_noise_is_that_between_repeats(seed: int) -> None:
    found = [fit_lr_ridge(trials(60, noise=sd, seed=seed), lr_range=LR_RANGE).noise_sd for sd in (0.05, 0.1)]
    assert found == pytest.approx([0.05, 0.1], rel=0.4)


def test_repeats_tell_through_noise_as_large_as_what_they_differ_by() -> None:
    rng = np.random.default_rng(0)
    cells = [(size, lr) for size in (32, 64, 128, 256) for lr in (0.05, 0.1, 0.4) for _ in range(7)]
    shape = [min((math.log2(lr / 0.1) - 0.5 * math.log2(size / 32)) ** 2 / 4, 1.0) for size, lr in cells]
    values = 0.3 + 0.06 * np.array(shape) + 0.03 * rng.standard_normal(len(cells))
    noise = 0.3 + 0.03 * rng.standard_normal(len(cells))
    told = fit_lr_ridge([RidgePoint(b, x, v) for (b, x), v in zip(cells, values, strict=True)])
    none = fit_lr_ridge([RidgePoint(b, x, v) for (b, x), v in zip(cells, noise, strict=True)])
    assert told.status is FitStatus.OK
    assert none.status is FitStatus.CONTRADICTORY


def test_predicted_values_are_not_said_to_be_unexplained() -> None:
    told, foretold = trials(30, seed=1)[:2], trials(30, seed=1)[2:]
    fit = fit_lr_ridge([*told, *(RidgePoint(p.batch_size, p.lr, 1.5, 0.6) for p in foretold)], lr_range=LR_RANGE)
    assert fit.status is FitStatus.NOT_IDENTIFIED


def test_an_uncertain_rate_at_the_edge_of_those_tried_is_looked_for_beyond_them() -> None:
    rng, noise = np.random.default_rng(10), np.random.default_rng(0)
    points = []
    for _ in range(20):  # the higher the better
        b = float(rng.choice(np.arange(3, 11)))
        x = -5.644 + 0.5 * (b - 5.0) + rng.uniform(-2, 2)
        points.append(RidgePoint(2.0**b, 2.0**x, 0.5 - 0.03 * b - 0.01 * x + 0.002 * noise.standard_normal()))
    fit = fit_lr_ridge(points, lr_range=(1e-4, 1.0))
    assert fit.status is FitStatus.NOT_IDENTIFIED
    near = re.search(r"more trials near (\S+) would tell more\.", fit.message)
    assert near is not None, fit.message
    assert float(near[1]) > max(point.lr for point in points)


def test_equal_values_are_contradictory() -> None:
    same = [RidgePoint(p.batch_size, p.lr, 1.0) for p in trials(10)]
    assert fit_lr_ridge(same).status is FitStatus.CONTRADICTORY


def test_optimum_beyond_the_searched_range_is_said_to_be_at_the_edge() -> None:
    points = [p for p in trials(80) if p.lr < 2.0**-9 and p.batch_size >= 128]
    found = fit_lr_ridge(points, lr_range=(2.0**-12, 2.0**-9)).predict(512)
    assert found is not None
    assert found.at_edge


def test_best_rates_cut_off_at_the_edge_rule_nothing_out() -> None:
    points = [p for p in trials(120, exponent=0.5) if p.lr < 2.0**-9]
    fit = fit_lr_ridge(points, lr_range=(2.0**-12, 2.0**-9))  # all best rates but those of the smallest sizes are above
    assert all(verdict.is_compatible for verdict in fit.rules() if verdict.rule == "sqrt")
    cut = fit_lr_ridge([p for p in points if p.batch_size >= 64], lr_range=(2.0**-12, 2.0**-9))
    assert cut.exponent is None
    assert cut.rules() == ()


def test_one_batch_size_has_a_best_learning_rate_but_no_exponent() -> None:
    rng = np.random.default_rng(0)
    points = [RidgePoint(64, 2.0**x, 1 + 0.03 * (x - ridge(6)) ** 2) for x in rng.uniform(-12, -1, 15)]
    fit = fit_lr_ridge(points, lr_range=LR_RANGE)
    found = fit.predict(64)
    assert found is not None
    assert abs(math.log2(found.lr.value) - ridge(6)) < 0.6
    assert fit.exponent is None
    assert fit.rules() == ()


def test_thousands_of_trials_are_thinned_and_keep_the_answer() -> None:
    found = fit_lr_ridge(trials(3000), lr_range=LR_RANGE).predict(64)
    assert found is not None
    assert abs(math.log2(found.lr.value) - ridge(6)) < 0.6


def test_two_valleys_are_both_told_and_the_rate_lies_in_one_of_them() -> None:
    tried = {-11.0: 1.0, -9.2: 0.1, -8.0: 0.6, -6.5: 2.0, -5.0: 0.6, -3.8: 0.1, -2.0: 1.0}
    points = [RidgePoint(64, 2.0**x, value) for x, value in tried.items()]
    found = fit_lr_ridge(points, lr_range=LR_RANGE).predict(64)
    assert found is not None
    low, high = (math.log2(valley.lr.value) for valley in found.valleys)
    assert (low, high) == (pytest.approx(-9.2, abs=0.7), pytest.approx(-3.8, abs=0.7))
    assert sum(valley.chance for valley in found.valleys) == pytest.approx(1.0)
    assert min(abs(math.log2(found.lr.value) - place) for place in (low, high)) < 1.0


def test_one_valley_isnt_taken_for_two(fit: LrRidgeFit) -> None:
    assert not any(row.valleys for row in fit.table)
