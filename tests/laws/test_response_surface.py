"""The surface: its priors, the fit, and what it predicts."""

from __future__ import annotations

import numpy as np
import pytest

from bsopt.laws.response_surface import Observations, ResponseSurface, fit
from bsopt.laws.scaling import Reference
from bsopt.laws.surface_prior import Coordinates, Domain, Prior, ridge_prior

DOMAIN = Domain(b=(3.0, 10.0), x=(float(np.log2(1e-5)), 0.0))
PRIOR = Prior(ridge_prior("sgd", None, Reference(32, 0.01)), DOMAIN)


def points(b: list[float], x: list[float]) -> Coordinates:
    return Coordinates(np.array(b), np.array(x), np.zeros((len(b), 0)), np.zeros((len(b), 0)))


def observations(at: Coordinates, y: np.ndarray, *, sd: list[float] | None = None) -> Observations:
    return Observations(at, y, np.array(sd or np.zeros(len(y))), np.full(len(y), 0.5))


def basin(b: np.ndarray, x: np.ndarray, *, height: float = -4.0) -> np.ndarray:
    u = x - (height + 0.6 * (b - 5))
    return np.log1p((u / 2) ** 2) + 0.05 * (b - 6) ** 2


def fitted(n: int, *, noise: float = 0.0) -> ResponseSurface:
    rng = np.random.default_rng(n)
    b, x = rng.integers(3, 11, n).astype(float), rng.uniform(-12, 0, n)
    y = basin(b, x)
    y = (y - y.mean()) / y.std() + noise * rng.standard_normal(n)
    return fit(PRIOR, observations(points(b.tolist(), x.tolist()), y), seed=(0,))


def test_ridge_prior_passes_through_the_reference_and_saturates() -> None:
    ridge = PRIOR.ridge
    assert PRIOR.shape_at(ridge, 5.0) == 0.0
    low, high = (PRIOR.shape_at(ridge, b + 1) - PRIOR.shape_at(ridge, b) for b in (4.0, 14.0))
    assert low > 0.6 > 0.1 > high > 0


@pytest.mark.parametrize(("rule", "octaves"), [("linear", 2.0), ("sqrt", 1.0), ("none", 0.0), (lambda k: k**0.25, 0.5)])
def test_rule_sets_the_slope_of_the_ridge(rule: object, octaves: float) -> None:
    prior = Prior(ridge_prior("sgd", rule, Reference(32, 0.01)), DOMAIN)  # type: ignore[arg-type]
    assert prior.shape_at(prior.ridge, 7.0) == pytest.approx(octaves, abs=0.02)


def test_prior_draws_follow_the_stated_medians() -> None:
    z = np.random.default_rng(0).standard_normal((4000, PRIOR.num_dimensions))
    draws = PRIOR.parameters(z)
    assert np.median(draws.centre) == pytest.approx(PRIOR.centre[0], abs=0.15)
    assert np.median(draws.width_low) == pytest.approx(2.5, rel=0.1)
    assert np.median(draws.knee) == pytest.approx(9.0, abs=0.15)


def test_draws_of_one_noise_prior_tell_what_another_would() -> None:
    z = np.random.default_rng(0).standard_normal((4000, PRIOR.num_dimensions))
    few = PRIOR.parameters(z)
    factors = few.as_if_noise(0.2, was=PRIOR.noise)
    assert np.mean(factors) == pytest.approx(1.0, abs=0.15)
    order = np.argsort(few.noise)
    upto = np.cumsum(factors[order]) / factors.sum()
    assert few.noise[order][np.searchsorted(upto, 0.5)] == pytest.approx(0.2, rel=0.1)
    assert few.as_if_noise(PRIOR.noise, was=PRIOR.noise) == pytest.approx(1.0)


def test_fit_finds_a_ridge_far_from_its_prior() -> None:
    rng = np.random.default_rng(3)
    b, x = rng.integers(3, 11, 25).astype(float), rng.uniform(-14, 0, 25)
    y = basin(b, x, height=-8.0)  # four octaves below where the prior has it
    posterior = fit(
        PRIOR,
        Observations(points(b.tolist(), x.tolist()), (y - y.mean()) / y.std(), np.zeros(25), np.full(25, 0.5)),
        seed=(0,),
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
        fit(PRIOR, Observations(at, y, np.array([0.0, 0.0, 0.0, sd]), np.full(4, 0.5)), seed=(0,)).moments(at)[0][3]
        for sd in (0.0, 2.0)
    ]
    assert abs(means[0] - 3.0) < 0.1
    assert means[1] < 2.0


@pytest.mark.parametrize("where", [(6.0, -3.4), (7.0, -2.8)])
def test_a_failed_seed_at_a_good_point_leaves_the_valley_where_it_is(where: tuple[float, float]) -> None:
    rng = np.random.default_rng(5)
    b, x = rng.integers(3, 11, 20).astype(float), rng.uniform(-9, 0, 20)
    b[-1], x[-1] = where
    y = basin(b, x) + 0.02 * rng.standard_normal(20)
    failed = y.copy()
    failed[-1] = y.max()
    means = []
    for values in (y, failed):
        told = observations(points(b.tolist(), x.tolist()), (values - y.mean()) / y.std())
        means.append(fit(PRIOR, told, seed=(0,)).moments(points([where[0]], [where[1]]))[0][0])
    assert means[1] - means[0] < 0.25 * (y.max() - y[-1]) / y.std()


def test_a_cliff_is_not_taken_for_failed_seeds() -> None:
    rng = np.random.default_rng(6)
    b, x = rng.integers(3, 11, 20).astype(float), rng.uniform(-9, 0, 20)
    y = basin(b, x) + 4.0 * (x > -2.0)
    told = observations(points(b.tolist(), x.tolist()), (y - y.mean()) / y.std())
    assert (fit(PRIOR, told, seed=(0,)).data.sd == 0.0).sum() >= 19
