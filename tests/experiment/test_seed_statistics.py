"""Means over seeds, and the intervals that figures show."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from bsopt.experiment.seed_statistics import curve_over_seeds, mean_over_seeds, spread


def test_bars_are_the_t_interval_of_the_mean_and_the_range_below_three_seeds() -> None:
    found = mean_over_seeds({0: 1.0, 1: 2.0, 2: 4.0, 3: 5.0})
    half = float(stats.t.ppf(0.975, 3)) * math.sqrt(np.var([1, 2, 4, 5], ddof=1) / 4)
    assert (found.value, found.num_seeds) == (3.0, 4)
    assert (found.low, found.high) == pytest.approx((3.0 - half, 3.0 + half))
    pair, single = mean_over_seeds({0: 1.0, 1: 4.0}), mean_over_seeds({7: 2.0})
    assert (pair.value, pair.low, pair.high) == (2.5, 1.0, 4.0)
    assert (single.low, single.high, single.num_seeds) == (2.0, 2.0, 1)


def test_logarithms_are_averaged_where_asked_for() -> None:
    found = mean_over_seeds({0: 1.0, 1: 100.0, 2: 10.0}, is_log=True)
    assert found.value == pytest.approx(10.0)
    assert 0 < found.low < 1.0


def test_a_mean_curve_ends_where_the_first_seed_stopped() -> None:
    found = curve_over_seeds({0: [1.0, 2.0, 3.0], 1: [3.0, math.nan]})
    assert found.places == (0, 1)
    assert [mean.value for mean in found.means] == [2.0, 2.0]
    assert found.tails == {0: (1, 2)}


def test_a_long_curve_is_thinned_and_keeps_its_ends() -> None:
    places = spread(10, 5010)
    assert len(places) <= 90
    assert (places[0], places[-1]) == (10, 5009)
    assert places[1] - places[0] < places[-1] - places[-2], "denser where curves move"
