"""A histogram that keeps no numbers, and what it says of them."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bsopt.laws.update_norms import NormHistogram, summarize_update_norms


@given(st.lists(st.floats(1e-9, 1e9), min_size=1, max_size=50), st.sampled_from([0.0, 0.1, 0.5, 0.9, 1.0]))
def test_histogram_quantiles_are_within_one_percent(values: list[float], q: float) -> None:
    histogram = NormHistogram()
    for value in values:
        histogram.add(value)
    exact = sorted(values)[math.floor(q * (len(values) - 1))]
    assert histogram.quantile(q) == pytest.approx(exact, rel=0.0101)
    edges, counts = histogram.edges_and_counts(max_bins=10)
    assert sum(counts) == len(values)
    assert len(edges) == len(counts) + 1 <= 11
    assert edges[0] <= min(values) * 1.0001
    assert edges[-1] >= max(values) * 0.9999


def _histogram(*values: float) -> NormHistogram:
    histogram = NormHistogram()
    for value in values:
        histogram.add(value)
    return histogram


def test_summary_is_within_the_numbers() -> None:
    summary = summarize_update_norms(_histogram(1.0, 2.0, 4.0), num_updates=30)
    assert summary is not None
    assert (summary.num_measured, summary.num_updates) == (3, 30)
    assert (summary.minimum, summary.maximum) == (1.0, 4.0)
    assert summary.mean == pytest.approx(7 / 3)
    assert summary.median == pytest.approx(2.0, rel=0.011)
    assert 1.0 <= summary.quantiles[0.05] <= summary.quantiles[0.95] <= 4.0


def test_nothing_measured_has_no_summary() -> None:
    assert summarize_update_norms(NormHistogram(), num_updates=3) is None
    assert math.isnan(NormHistogram().mean)
    assert math.isnan(NormHistogram().quantile(0.5))


def test_state_makes_the_same_histogram_again() -> None:
    state = _histogram(0.1, 0.2, 5.0).state()
    assert summarize_update_norms(NormHistogram(**state), num_updates=3) == summarize_update_norms(
        _histogram(0.1, 0.2, 5.0), num_updates=3
    )
