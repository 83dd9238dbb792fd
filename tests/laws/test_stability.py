"""Limits are found where the endings of trials put them, and accidents make none."""

from __future__ import annotations

import numpy as np
import pytest

from bsopt.laws.stability import Ending, Stability

RANGES = {"b_range": (3.0, 10.0), "x_range": (-16.0, 0.0)}
RNG = np.random.default_rng(0)
B, X = RNG.integers(3, 11, 40).astype(float), RNG.uniform(-16.0, 0.0, 40)


def test_nothing_is_ruled_out_while_everything_runs() -> None:
    found = Stability.of(B, X, [Ending.RAN] * 40, **RANGES)
    assert found.probability(B, X).min() > 0.8


@pytest.mark.parametrize("slope", [0.0, 0.5, 1.0])
def test_a_limit_of_the_learning_rate_is_found_at_its_slope(slope: float) -> None:
    limit = -6.0 + slope * (B - 6.5)
    endings = [Ending.DIVERGED if x > at else Ending.RAN for x, at in zip(X, limit, strict=True)]
    found = Stability.of(B, X, endings, **RANGES)
    assert found.probability(B, limit - 2.0).min() > 0.9
    assert found.probability(B, limit + 2.0).max() < 0.1


def test_a_batch_size_that_fails_before_it_has_a_learning_rate_is_a_limit_of_the_batch_size() -> None:
    endings = [Ending.FAILED if b > 7.5 else Ending.RAN for b in B]
    found = Stability.of(B, np.where(B > 7.5, np.nan, X), endings, **RANGES)
    assert found.probability(np.array([7.0]), np.array([-8.0]))[0] > 0.8
    assert found.probability(np.array([8.0]), np.array([-8.0]))[0] < 0.1


def test_out_of_memory_says_nothing_of_the_learning_rate() -> None:
    endings = [Ending.OUT_OF_MEMORY if b > 7.5 else Ending.RAN for b in B]
    found = Stability.of(B, X, endings, **RANGES)
    assert found.instability(np.array([9.0]), np.array([-8.0]))[0] < 0.2


def test_one_accident_among_many_trials_makes_no_limit() -> None:
    endings = [Ending.RAN] * 40
    endings[17] = Ending.FAILED
    found = Stability.of(B, X, endings, **RANGES)
    assert found.probability(B[17:18], X[17:18])[0] > 0.8
