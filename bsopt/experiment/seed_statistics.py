"""Means over the seeds of a design with their intervals: of a number, and of a curve."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from bsopt.experiment.findings.contrasts import contrast

__all__ = [
    "FEWEST_FOR_INTERVAL",
    "CurveOverSeeds",
    "SeedMean",
    "curve_over_seeds",
    "mean_over_seeds",
    "spread",
]

FEWEST_FOR_INTERVAL = 3
"""Seeds; below, a mean has its values' range instead of a confidence interval."""
MAX_POINTS = 90
MAX_TAIL_POINTS = 30


@dataclass(frozen=True, slots=True)
class SeedMean:
    """A mean over seeds.

    Attributes:
        value: The mean; the geometric one where values lie decades apart and are drawn on a log axis.
        low: Lower end of its 95 % interval (Student's t); the smallest value where there are fewer than 3 seeds.
        high: Upper end.
        num_seeds: How many.
    """

    value: float
    low: float
    high: float
    num_seeds: int


@dataclass(frozen=True, slots=True)
class CurveOverSeeds:
    """Curves of several seeds, averaged as far as all of them go; a mean over those that are left would jump.

    Attributes:
        places: Indices into the curves, thinned.
        means: At these places.
        tails: Seed -> indices of what one curve has beyond the shortest, thinned.
    """

    places: tuple[int, ...]
    means: tuple[SeedMean, ...]
    tails: Mapping[int, tuple[int, ...]]


def mean_over_seeds(values: Mapping[int, float], *, is_log: bool = False) -> SeedMean:
    """Return the mean of seed -> value with its interval.

    Args:
        values: At least one.
        is_log: Average logarithms: the geometric mean of positive values, whose interval never reaches zero.

    >>> mean_over_seeds({0: 1.0, 1: 3.0})
    SeedMean(value=2.0, low=1.0, high=3.0, num_seeds=2)
    >>> found = mean_over_seeds({0: 1.0, 1: 2.0, 2: 3.0})
    >>> round(found.low, 3), round(found.high, 3)
    (-0.484, 4.484)
    >>> mean_over_seeds({0: 1.0, 1: 4.0}, is_log=True).value
    2.0
    """
    if is_log:
        logs = mean_over_seeds({seed: math.log(value) for seed, value in values.items()})
        return SeedMean(math.exp(logs.value), math.exp(logs.low), math.exp(logs.high), logs.num_seeds)
    found = list(values.values())
    mean = math.fsum(found) / len(found)
    if len(found) < FEWEST_FOR_INTERVAL:
        return SeedMean(mean, min(found), max(found), len(found))
    low, high = contrast([values], [1.0], min_seeds=FEWEST_FOR_INTERVAL).interval()
    return SeedMean(mean, low, high, len(found))


def curve_over_seeds(curves: Mapping[int, Sequence[float]], *, is_log: bool = False) -> CurveOverSeeds:
    """Average seed -> curve, index by index; values that aren't finite are left out of their mean.

    Args:
        curves: At least one.
        is_log: As for `mean_over_seeds`.
    """
    shortest = min(len(curve) for curve in curves.values())
    places, means = [], []
    for place in spread(0, shortest):
        found = {seed: curve[place] for seed, curve in curves.items() if math.isfinite(curve[place])}
        if found:
            places.append(place)
            means.append(mean_over_seeds(found, is_log=is_log))
    tails = {
        seed: spread(max(0, shortest - 1), len(curve), most=MAX_TAIL_POINTS)
        for seed, curve in curves.items()
        if len(curve) > shortest
    }
    return CurveOverSeeds(tuple(places), tuple(means), tails)


def spread(first: int, end: int, *, most: int = MAX_POINTS) -> tuple[int, ...]:
    """Return at most so many indices of a curve, first and last among them, denser where curves move: early.

    >>> spread(0, 4), spread(0, 1000, most=6)
    ((0, 1, 2, 3), (0, 9, 99, 333, 666, 999))
    """
    num = end - first
    if num <= most:
        return tuple(range(first, end))
    even = np.linspace(0, num - 1, most - most // 2 + 1)
    early = np.geomspace(1, num, most - len(even) + 2) - 1
    found = np.unique(np.concatenate([even, early]).astype(int))
    return tuple(int(first + place) for place in found)
