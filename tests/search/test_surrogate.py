"""The belief: squashed values, priors, the fit, and what follows from it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.distributions import FloatDistribution, IntDistribution

from bsopt.laws.scaling import Reference
from bsopt.search.acquisition import expected_improvement
from bsopt.search.feasibility import Feasibility
from bsopt.search.prior import Prior, ridge_prior
from bsopt.search.space import Coordinates, Space
from bsopt.search.surrogate import Observations, Posterior, fit
from bsopt.search.value_transform import ValueTransform

SPACE = Space.of(
    {"batch_size": IntDistribution(8, 1024, log=True), "lr": FloatDistribution(1e-5, 1.0, log=True)},
    batch_size="batch_size",
    lr="lr",
)
PRIOR = Prior(ridge_prior("sgd", None, Reference(32, 0.01)), SPACE)


def points(b: list[float], x: list[float]) -> Coordinates:
    return Coordinates(np.array(b), np.array(x), np.zeros((len(b), 0)), np.zeros((len(b), 0)))


def basin(b: np.ndarray, x: np.ndarray, *, height: float = -4.0) -> np.ndarray:
    u = x - (height + 0.6 * (b - 5))
    return np.log1p((u / 2) ** 2) + 0.05 * (b - 6) ** 2


def fitted(n: int, *, noise: float = 0.0) -> Posterior:
    rng = np.random.default_rng(n)
    b, x = rng.integers(3, 11, n).astype(float), rng.uniform(-12, 0, n)
    y = basin(b, x)
    y = (y - y.mean()) / y.std() + noise * rng.standard_normal(n)
    return fit(PRIOR, Observations(points(b.tolist(), x.tolist()), y, np.zeros(n)), seed=(0,))


@given(values=st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=20), maximize=st.booleans())
@settings(deadline=None)
def test_squash_is_monotone_and_follows_the_direction(values: list[float], maximize: bool) -> None:
    transform = ValueTransform.of(values, maximize=maximize)
    ordered = transform(np.sort(values))
    steps = np.diff(ordered)
    assert np.isfinite(ordered).all()
    assert (steps <= 1e-9).all() if maximize else (steps >= -1e-9).all()


@given(values=st.lists(st.floats(0.1, 10), min_size=3, max_size=12), scale=st.floats(1e-3, 1e3), shift=st.floats(-5, 5))
@settings(deadline=None)
def test_squash_does_not_depend_on_the_unit(values: list[float], scale: float, shift: float) -> None:
    v = np.round(np.array(values), 3)
    plain, other = ValueTransform.of(v), ValueTransform.of(scale * (v + shift))
    assert other(scale * (v + shift)) == pytest.approx(plain(v), abs=1e-5)


def test_diverged_and_missing_values_count_as_the_cap() -> None:
    transform = ValueTransform.of([1.0, 2.0, 3.0, np.inf, np.nan])
    assert transform(np.inf) == transform(np.nan) == transform(1e30) > transform(3.0)
    assert transform(-np.inf) == transform(1.0)


def test_squash_inverts_below_its_cap() -> None:
    transform = ValueTransform.of([0.3, 0.4, 0.9, 5.0], maximize=True)
    assert transform.inverse(transform([5.5, 5.0, 0.4])) == pytest.approx([5.5, 5.0, 0.4])


def test_slope_is_the_derivative_of_the_squash() -> None:
    transform = ValueTransform.of([1.0, 1.5, 2.0, 4.0])
    step = 1e-6
    assert transform.slope(2.5) == pytest.approx((transform(2.5 + step) - transform(2.5 - step)) / (2 * step), rel=1e-4)


def test_ridge_prior_passes_through_the_reference_and_saturates() -> None:
    ridge = PRIOR.ridge
    assert PRIOR.shape_at(ridge, 5.0) == 0.0
    low, high = (PRIOR.shape_at(ridge, b + 1) - PRIOR.shape_at(ridge, b) for b in (4.0, 14.0))
    assert low > 0.6 > 0.1 > high > 0


@pytest.mark.parametrize(("rule", "octaves"), [("linear", 2.0), ("sqrt", 1.0), ("none", 0.0), (lambda k: k**0.25, 0.5)])
def test_rule_sets_the_slope_of_the_ridge(rule: object, octaves: float) -> None:
    prior = Prior(ridge_prior("sgd", rule, Reference(32, 0.01)), SPACE)  # type: ignore[arg-type]
    assert prior.shape_at(prior.ridge, 7.0) == pytest.approx(octaves, abs=0.02)


def test_prior_draws_follow_the_stated_medians() -> None:
    z = np.random.default_rng(0).standard_normal((4000, PRIOR.num_dimensions))
    draws = PRIOR.parameters(z)
    assert np.median(draws.centre) == pytest.approx(PRIOR.centre[0], abs=0.15)
    assert np.median(draws.width_low) == pytest.approx(2.5, rel=0.1)
    assert np.median(draws.knee) == pytest.approx(9.0, abs=0.15)


def test_fit_finds_a_ridge_far_from_its_prior() -> None:
    rng = np.random.default_rng(3)
    b, x = rng.integers(3, 11, 25).astype(float), rng.uniform(-14, 0, 25)
    y = basin(b, x, height=-8.0)  # four octaves below where the prior has it
    posterior = fit(
        PRIOR, Observations(points(b.tolist(), x.tolist()), (y - y.mean()) / y.std(), np.zeros(25)), seed=(0,)
    )
    grid = np.linspace(-14, 0, 60)
    mean, _ = posterior.moments(points([6.0] * 60, grid.tolist()))
    assert grid[mean.argmin()] == pytest.approx(-7.4, abs=0.8)


def test_intervals_of_the_belief_cover_what_was_held_out() -> None:
    covered = []
    for n in (8, 12, 16, 20):
        posterior = fitted(n, noise=0.02)
        rng = np.random.default_rng(100 + n)
        b, x = rng.integers(3, 11, 60).astype(float), rng.uniform(-12, 0, 60)
        seen = posterior.data
        raw = basin(seen.at.b, seen.at.x)
        true = (basin(b, x) - raw.mean()) / raw.std()
        mean, sd = posterior.moments(points(b.tolist(), x.tolist()))
        covered.append(np.mean(np.abs(true - mean) < 1.645 * sd))
    assert 0.75 < np.mean(covered) <= 1.0


def test_same_data_and_seed_give_the_same_fit() -> None:
    one, two = fitted(10), fitted(10)
    assert (one.weights == two.weights).all()
    assert (one.parameters.centre == two.parameters.centre).all()


def test_no_improvement_is_expected_at_the_best_point_itself() -> None:
    posterior = fitted(12, noise=0.05)
    best = posterior.data.at[np.array([posterior.data.y.argmin()])]
    only = np.array([posterior.data.y.argmin()])
    mean, variance = posterior.improvement(best, only)
    assert np.abs(mean).max() < 1e-6
    assert variance.max() < 1e-6


def test_pending_points_lower_the_uncertainty_around_them_and_leave_the_mean() -> None:
    posterior = fitted(6)
    where = points([8.0], [-9.0])
    before, after = posterior.moments(where), posterior.with_fantasies(where).moments(where)
    assert after[0] == pytest.approx(before[0], abs=1e-3)
    within = posterior.with_fantasies(where).predict(where)[1].mean(), posterior.predict(where)[1].mean()
    assert within[0] < 0.1 * within[1]


def test_uncertain_observation_moves_the_belief_less() -> None:
    at = points([5.0, 5.0, 8.0, 8.0], [-6.0, -2.0, -8.0, -4.0])
    y = np.array([-1.0, 1.0, 0.5, 3.0])
    means = [
        fit(PRIOR, Observations(at, y, np.array([0.0, 0.0, 0.0, sd])), seed=(0,)).moments(at)[0][3] for sd in (0.0, 2.0)
    ]
    assert abs(means[0] - 3.0) < 0.1
    assert means[1] < 2.0


def test_expected_improvement_of_a_certain_gain_is_the_gain() -> None:
    assert expected_improvement(np.array(2.0), np.array(1e-9)) == pytest.approx(2.0)
    assert expected_improvement(np.array(-2.0), np.array(1e-3)) == pytest.approx(0.0, abs=1e-12)


def test_boundary_along_one_parameter_is_learned_with_a_margin() -> None:
    rng = np.random.default_rng(0)
    rows = rng.random((30, 2))
    model = Feasibility.of(rows, np.where(rows[:, 0] < 0.6, 1.0, -1.0))
    assert model.probability(np.array([[0.2, 0.5], [0.4, 0.1]])).min() > 0.8
    assert model.probability(np.array([[0.75, 0.5], [0.95, 0.1]])).max() < 0.1
    assert model.probability(np.array([[0.6, 0.5]]))[0] < 0.5
