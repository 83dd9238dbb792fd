"""Measurements of a run, averaged lately and kept in stretches."""

from __future__ import annotations

import math

import pytest

from bsopt.laws.noise_history import NoiseHistory
from bsopt.laws.noise_scale import NoiseMeasurement


def _history(num: int, *, decay: float = 1.0) -> NoiseHistory:
    history = NoiseHistory(decay=decay, confidence=0.95)
    for i in range(num):
        history.add(NoiseMeasurement(1.0, 10.0 + i), samples_seen=32 * (i + 1))
    return history


def test_all_measurements_count_the_same_without_decay() -> None:
    estimate = _history(3).estimate
    assert estimate is not None
    assert (estimate.value, estimate.num_measurements) == (pytest.approx(11.0), 3)


@pytest.mark.parametrize("num", [1, 32, 33, 100, 1000])
def test_stretches_stay_few_and_hold_every_measurement(num: int) -> None:
    points = _history(num).points
    assert len(points) <= 32
    assert sum(point.noise_scale.num_measurements for point in points) == num
    seen = [point.samples_seen for point in points]
    assert seen == sorted(seen)
    assert seen[-1] == 32 * num


def test_what_is_not_finite_is_counted_and_left_out() -> None:
    history = _history(2)
    history.add(NoiseMeasurement(math.inf, 1.0), samples_seen=96)
    assert history.num_skipped == 1
    assert history.estimate == _history(2).estimate


def test_growth_is_seen() -> None:
    trend = _history(100).trend
    assert trend is not None
    assert trend.growth > 1
    assert _history(1).trend is None


def test_state_goes_on() -> None:
    history = NoiseHistory(decay=0.9, confidence=0.95)
    history.load(_history(40, decay=0.9).state())
    assert history.estimate == _history(40, decay=0.9).estimate
    assert history.points == _history(40).points
