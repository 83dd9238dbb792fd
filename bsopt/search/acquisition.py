"""How good a point to try is, given a belief.

    log a(x) = log E[EI(x)] + (β/n)·log π(x) + log P(feasible) − a·log cost(x)

EI is the expected improvement of each draw over its own lowest mean at the data, π the prior density of the
learning rate (Hvarfner et al. 2022, arXiv 2204.11051), which fades as trials n come in, and the cost's exponent
the share of the budget that is left (Lee et al. 2020, arXiv 2003.10870). Where trials may be pruned, a poor
trial costs less than a good one, and EI is divided by 0.1 + 0.9·P(improve).
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from bsopt.laws.response_surface import ResponseSurface
from bsopt.laws.surface_prior import Coordinates

__all__ = ["expected_improvement", "log_improvement"]

Array: TypeAlias = NDArray[np.float64]

SHORTEST_PRUNED_RUN = 0.1
"""The part of a full run that a hopeless trial costs before it is pruned."""


def expected_improvement(mean: Array, sd: Array) -> Array:
    """Return E[max(d, 0)] for an improvement d ~ N(`mean`, `sd`²), elementwise; both of any one shape.

    >>> round(float(expected_improvement(np.array(0.0), np.array(1.0))), 4)
    0.3989
    """
    t = mean / sd
    return np.asarray(np.maximum(mean * ndtr(t) + sd * np.exp(-0.5 * t * t) / np.sqrt(2 * np.pi), 0.0))


def log_improvement(posterior: ResponseSurface, at: Coordinates, *, feasible: NDArray[np.bool_], prunes: bool) -> Array:
    """Return the log of the improvement to expect at points, shape (m,).

    Args:
        posterior: The belief, with pending trials already in it.
        at: The points.
        feasible: Which of the posterior's data may count as best, shape (n,); all where none may.
        prunes: Whether hopeless trials end early.
    """
    rows = np.flatnonzero(feasible) if feasible.any() else np.arange(len(feasible))
    if len(rows):
        mean, variance = posterior.improvement(at, rows)
    else:
        mean, variance = posterior.predict(at)
        mean = mean.min(axis=1)[:, None] - mean
    sd = np.sqrt(variance)
    log_ei = np.log(np.maximum(posterior.weights @ expected_improvement(mean, sd), 1e-300))
    if prunes:
        chance = posterior.weights @ ndtr(mean / sd)
        log_ei -= np.log(SHORTEST_PRUNED_RUN + (1 - SHORTEST_PRUNED_RUN) * chance)
    return np.asarray(log_ei)
