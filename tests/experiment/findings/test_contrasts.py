from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from bsopt.experiment.findings.contrasts import TooFewSeedsError, contrast, fraction_interval, holm, trend_coefficients


def group(values: np.ndarray, first_seed: int = 0) -> dict[int, float]:
    return {first_seed + i: float(v) for i, v in enumerate(values)}


def test_shared_seeds_give_scipys_paired_t_test() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=8), rng.normal(size=8)
    result = contrast([group(a), group(b)], [1, -1])
    expected = stats.ttest_rel(a, b)
    assert result.is_paired
    assert result.p == pytest.approx(expected.pvalue)
    assert result.interval() == pytest.approx(tuple(expected.confidence_interval()))


def test_separate_seeds_give_scipys_welch_test() -> None:
    rng = np.random.default_rng(1)
    a, b = rng.normal(size=7), rng.normal(1, 3, size=12)
    result = contrast([group(a), group(b, first_seed=100)], [1, -1])
    expected = stats.ttest_ind(a, b, equal_var=False)
    assert not result.is_paired
    assert result.num_seeds == 7
    assert result.p == pytest.approx(expected.pvalue)
    assert result.interval() == pytest.approx(tuple(expected.confidence_interval()))


def test_too_few_seeds_are_refused() -> None:
    with pytest.raises(TooFewSeedsError, match="4 runs"):
        contrast([group(np.arange(4.0)), group(np.arange(9.0), first_seed=50)], [1, -1])


def test_a_trend_is_the_rise_of_scipys_line() -> None:
    rng = np.random.default_rng(2)
    x, y = np.array([1.0, 2.0, 4.0, 5.0]), rng.normal(size=4)
    rise = float(np.dot(trend_coefficients(list(x)), y))
    assert rise == pytest.approx(stats.linregress(x, y).slope * 4)


def test_agreement_on_a_coarse_grid_is_not_certainty() -> None:
    groups = [group(np.zeros(5)), group(np.ones(5))]
    assert contrast(groups, [-1, 1]).p == 0.0
    assert 0.0 < contrast(groups, [-1, 1], resolution=1.0).p < 0.05
    assert contrast(groups, [-1, 1], resolution=10.0).p > 0.05
    assert contrast([group(np.ones(5)), group(np.ones(5))], [-1, 1]).p == 1.0


def test_fiellers_interval_covers_the_true_fraction_as_often_as_it_says() -> None:
    rng, hits, runs = np.random.default_rng(3), 0, 400
    for _ in range(runs):
        shared = rng.normal(0, 0.02, 5)
        values = [mean + shared + rng.normal(0, 0.004, 5) for mean in (0.395, 0.352, 0.345)]
        low, high = fraction_interval([group(v) for v in values], part=[1, -1, 0], whole=[1, 0, -1])
        hits += low <= 0.86 <= high
    assert hits / runs == pytest.approx(0.95, abs=0.035)


def test_no_whole_has_no_bounded_fraction() -> None:
    rng = np.random.default_rng(4)
    groups = [group(rng.normal(size=5)) for _ in range(3)]
    assert fraction_interval(groups, part=[1, -1, 0], whole=[1, 0, -1]) == (-math.inf, math.inf)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=20))
def test_holm_never_lowers_a_p_value_and_keeps_their_order(p_values: list[float]) -> None:
    corrected = [judged.p for judged in holm(p_values)]
    assert all(0 <= p <= q <= 1 for p, q in zip(p_values, corrected, strict=True))
    order = np.argsort(p_values, kind="stable")
    assert np.all(np.diff(np.array(corrected)[order]) >= 0)
    assert min(corrected) == pytest.approx(min(1.0, len(p_values) * min(p_values)))


@given(st.lists(st.floats(0, 0.1), min_size=1, max_size=20))
def test_each_test_s_own_level_says_the_same_as_its_corrected_p(p_values: list[float]) -> None:
    for p, judged in zip(p_values, holm(p_values, alpha=0.05), strict=True):
        assert (p < judged.alpha) == (judged.p < 0.05) or p == pytest.approx(judged.alpha)


def test_holm_agrees_with_a_published_example() -> None:
    found = [judged.p for judged in holm([0.01, 0.013, 0.014, 0.19, 0.35, 0.5])]
    assert found == pytest.approx([0.06, 0.065, 0.065, 0.57, 0.7, 0.7])
