"""What the fits of `laws/` share: a status, a number with its interval, and storage as plain dictionaries."""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = [
    "INTERVAL_MASS",
    "Estimate",
    "FitStatus",
    "estimate_from_samples",
]

INTERVAL_MASS = 0.9
"""Posterior mass of every interval that a fit reports."""

_T = TypeVar("_T")


class FitStatus(str, enum.Enum):
    """Whether a fit may be believed; the fit's `message` says it to a person."""

    OK = "ok"
    TOO_FEW = "too_few"
    NOT_IDENTIFIED = "not_identified"
    CONTRADICTORY = "contradictory"


@dataclasses.dataclass(frozen=True, slots=True)
class Estimate:
    """A number with its 90 % interval, in the same unit; a bound is infinite where the data give none."""

    value: float
    low: float
    high: float

    def __contains__(self, number: object) -> bool:
        return isinstance(number, (int, float)) and self.low <= number <= self.high

    def scaled(self, factor: float) -> Estimate:
        """Return the estimate in another unit: all three numbers times a positive factor."""
        return Estimate(self.value * factor, self.low * factor, self.high * factor)


def estimate_from_samples(samples: ArrayLike, weights: ArrayLike | None = None) -> Estimate:
    """Return the median and the central 90 % of (weighted) posterior samples, both of shape [n].

    >>> estimate_from_samples([1.0, 2.0, 3.0]).value
    2.0
    """
    x = np.asarray(samples, dtype=float)
    tail = (1.0 - INTERVAL_MASS) / 2.0
    if weights is None:
        low, middle, high = np.quantile(x, [tail, 0.5, 1.0 - tail])
    else:
        low, middle, high = weighted_quantiles(x, np.asarray(weights, dtype=float), (tail, 0.5, 1.0 - tail))
    return Estimate(float(middle), float(low), float(high))


def weighted_quantiles(
    samples: NDArray[np.float64], weights: NDArray[np.float64], levels: Sequence[float]
) -> NDArray[np.float64]:
    """Return quantiles of samples [n] with non-negative weights [n], interpolated between the samples' mid-ranks."""
    order = np.argsort(samples, kind="stable")
    mass = weights[order]
    ranks = np.cumsum(mass) - 0.5 * mass
    return np.asarray(np.interp(np.asarray(levels) * mass.sum(), ranks, samples[order]), dtype=float)
