from __future__ import annotations

import numpy as np
import pytest

from bsopt.laws.extrapolation import extrapolate


def _noisy(level: np.ndarray, sd: float, seed: int) -> np.ndarray:
    return level + sd * np.random.default_rng(seed).standard_normal(len(level))


@pytest.mark.parametrize("seconds", [1.0, 1e6])
@pytest.mark.parametrize("shape", ["power law", "exponential"])
def test_extrapolation_recovers_the_family_it_assumes(shape: str, seconds: float) -> None:
    t = np.arange(1, 21) * seconds
    curve = {"power law": lambda x: 0.3 + x**-0.5, "exponential": lambda x: 0.3 + np.exp(-x / 6.0)}[shape]
    found = extrapolate(t, curve(t / seconds), end=60 * seconds)
    assert found.status == "ok"
    assert found.shape == shape
    assert found.value == pytest.approx(curve(60.0), abs=0.03)
    assert found.low <= curve(60.0) <= found.high


def test_extrapolation_intervals_cover_noisy_curves() -> None:
    t, truth, covered = np.arange(1.0, 13.0), 0.3 + 52.0**-0.7, 0
    for seed in range(60):
        found = extrapolate(t, _noisy(0.3 + t**-0.7, 0.01, seed), end=52)
        covered += found.low <= truth <= found.high
    assert covered >= 50


def test_extrapolation_mirrors_when_the_direction_does() -> None:
    t = np.arange(0, 10)
    down = extrapolate(t, 1 / (1.0 + t), end=40)
    up = extrapolate(t, -1 / (1.0 + t), end=40, direction="maximize")
    assert up.value == pytest.approx(-down.value)
    assert (up.low, up.high) == pytest.approx((-down.high, -down.low))


def test_extrapolation_says_when_it_cannot() -> None:
    few = extrapolate([1, 2, 3], [3.0, 2.0, 1.0], end=10)
    assert (few.status, few.value, few.sd) == ("too_few", 1.0, float("inf"))
    assert few.chance_below(0.5) == 0.5
    done = extrapolate([1, 2], [3.0, 2.0], end=2)
    assert (done.status, done.value, done.chance_below(2.5)) == ("beyond", 2.0, 1.0)
    flat = extrapolate([1, 2, 3, 4], [1.0] * 4, end=10)
    assert flat.value == pytest.approx(1.0, abs=1e-6)
