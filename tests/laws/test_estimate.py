"""Intervals that several laws share: draws from a grid posterior, and Fieller's interval of a ratio."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from bsopt.laws.estimate import draw_from_grid, estimate_from_samples, fieller_interval, shuffled_normals


def test_draws_from_a_grid_follow_its_density_on_every_axis() -> None:
    x, y = np.linspace(-5, 5, 81), np.linspace(-6, 6, 61)
    log_density = -0.5 * (x[:, None] - 1.0) ** 2 - 0.5 * ((y[None, :] + 2.0) / 0.7) ** 2 + 1000.0
    i, j = draw_from_grid(log_density, 999)
    assert (x[i].mean(), x[i].std()) == pytest.approx((1.0, 1.0), abs=0.02)
    assert (y[j].mean(), y[j].std()) == pytest.approx((-2.0, 0.7), abs=0.05)


def test_empty_cells_of_a_grid_are_never_drawn() -> None:
    (cells,) = draw_from_grid(np.array([-np.inf, 0.0, -np.inf, 0.0, -np.inf]), 10)
    assert cells.tolist() == [1] * 5 + [3] * 5


def test_shuffled_normals_are_the_normal_quantiles_in_an_order_that_the_seed_sets() -> None:
    one, two = shuffled_normals(199, seed=0), shuffled_normals(199, seed=1)
    assert sorted(one) == pytest.approx(sorted(two))
    assert one.tolist() != two.tolist()
    assert np.quantile(one, 0.95) == pytest.approx(stats.norm.ppf(0.95), abs=0.03)


def test_estimate_is_the_median_with_the_central_nine_tenths() -> None:
    found = estimate_from_samples(np.arange(101.0))
    assert (found.low, found.value, found.high) == pytest.approx((5.0, 50.0, 95.0))
    assert 94 in found
    assert 96 not in found
    assert found.scaled(0.5).high == pytest.approx(47.5)


@given(
    n=st.floats(-5, 5),
    d=st.floats(3, 9),
    var_n=st.floats(0.01, 1),
    var_d=st.floats(0.01, 1),
    share=st.floats(-0.9, 0.9),
)
def test_ends_of_fiellers_interval_are_the_ratios_at_the_edge_of_compatibility(n, d, var_n, var_d, share) -> None:
    covariance = share * math.sqrt(var_n * var_d)
    low, high = fieller_interval(n, d, variances=(var_n, var_d), covariance=covariance, quantile=2.0)
    assert low <= n / d <= high
    for ratio in (low, high):
        deviation = (n - ratio * d) / math.sqrt(var_n - 2 * ratio * covariance + ratio**2 * var_d)
        assert abs(deviation) == pytest.approx(2.0, rel=1e-6)


def test_fiellers_interval_covers_the_ratio_as_often_as_it_says() -> None:
    rng, covered = np.random.default_rng(0), 0
    for _ in range(400):
        pairs = rng.multivariate_normal([3.0, 2.0], [[1.0, 0.4], [0.4, 0.8]], 12)
        (n, d), cov = pairs.mean(axis=0), np.cov(pairs.T) / 12
        low, high = fieller_interval(
            n, d, variances=(cov[0, 0], cov[1, 1]), covariance=cov[0, 1], quantile=stats.t.ppf(0.95, 11)
        )
        covered += low <= 1.5 <= high
    assert 0.86 <= covered / 400 <= 0.94


def test_a_denominator_that_may_be_zero_leaves_the_ratio_unbounded() -> None:
    unknown = {"variances": (1.0, 1.0), "covariance": 0.0, "quantile": 2.0}
    assert fieller_interval(9.0, 0.5, **unknown) == (-math.inf, math.inf)
    low, high = fieller_interval(9.0, 0.5, **unknown, is_positive=True)
    assert (low > 3.0, high) == (True, math.inf)
    assert fieller_interval(0.5, 0.5, **unknown, is_positive=True) == (0.0, math.inf)
    assert fieller_interval(9.0, -9.0, **unknown, is_positive=True) == (
        0.0,
        math.inf,
    )  # contradictory


def test_a_positive_ratio_has_no_negative_end() -> None:
    low, high = fieller_interval(0.1, 9.0, variances=(1.0, 1.0), covariance=0.0, quantile=2.0, is_positive=True)
    assert low == 0.0 < high
