"""What the fits of `laws/` share: a status, a number with its interval, and two ways to such intervals.

A fit with few parameters takes its posterior on a grid (`draw_from_grid`); a ratio of two means has Fieller's
interval (`fieller_interval`).
"""

from __future__ import annotations

import dataclasses
import enum
import math

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import norm

__all__ = [
    "INTERVAL_MASS",
    "Estimate",
    "FitStatus",
    "draw_from_grid",
    "estimate_from_samples",
    "fieller_interval",
    "shuffled_normals",
]

INTERVAL_MASS = 0.9
"""Posterior mass of every interval that a fit reports."""


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

    @property
    def is_bounded(self) -> bool:
        """Whether both ends of the interval are known."""
        return math.isfinite(self.low) and math.isfinite(self.high)

    def scaled(self, factor: float) -> Estimate:
        """Return the estimate in another unit: all three numbers times a positive factor."""
        return Estimate(self.value * factor, self.low * factor, self.high * factor)

    def within(self, low: float, high: float) -> Estimate:
        """Return the estimate with each of its three numbers between bounds that none can pass."""
        value, below, above = (min(max(number, low), high) for number in (self.value, self.low, self.high))
        return Estimate(value, below, above)


def estimate_from_samples(samples: ArrayLike) -> Estimate:
    """Return the median and the central 90 % of posterior samples.

    Args:
        samples: Shape (n,), in any unit, which the estimate has too.

    >>> estimate_from_samples([1.0, 2.0, 3.0]).value
    2.0
    """
    tail = (1.0 - INTERVAL_MASS) / 2.0
    low, middle, high = np.quantile(np.asarray(samples, dtype=float), [tail, 0.5, 1.0 - tail])
    return Estimate(float(middle), float(low), float(high))


def draw_from_grid(log_density: NDArray[np.float64], num_draws: int) -> tuple[NDArray[np.intp], ...]:
    """Return the cells of a grid that draws from a posterior fall into, one array of indices per axis.

    The draws are evenly spaced over the cumulated mass of the cells in their order, and not random: few of them
    say much, and the same posterior gives the same draws. So they come sorted along the first axis.

    Args:
        log_density: Log of the unnormalised posterior mass of each cell, any shape; −inf for an empty one.
        num_draws: How many.

    Returns:
        As many arrays as the grid has axes, each of shape (num_draws,): `axis[indices]` are the draws of a parameter.

    >>> (cells,) = draw_from_grid(np.log([0.5, 0.25, 0.25]), 4)
    >>> cells.tolist()
    [0, 0, 1, 2]
    """
    cumulated = np.cumsum(np.exp(log_density - log_density.max()).ravel())
    levels = (np.arange(num_draws) + 0.5) / num_draws * cumulated[-1]
    cells = np.minimum(np.searchsorted(cumulated, levels), log_density.size - 1)
    return np.unravel_index(cells, log_density.shape)


def shuffled_normals(num_draws: int, *, seed: int) -> NDArray[np.float64]:
    """Return the quantiles of a standard normal at the middles of `num_draws` equal parts, shuffled.

    Noise for draws that come in an order, as those of `draw_from_grid` do.

    >>> sorted(shuffled_normals(3, seed=0).round(3).tolist())
    [-0.967, 0.0, 0.967]
    """
    return np.asarray(norm.ppf((np.random.default_rng(seed).permutation(num_draws) + 0.5) / num_draws))


def fieller_interval(
    numerator: float,
    denominator: float,
    *,
    variances: tuple[float, float],
    covariance: float,
    quantile: float,
    is_positive: bool = False,
) -> tuple[float, float]:
    """Return the confidence interval of the ratio of two means (Fieller 1954, J. R. Stat. Soc. B 16(2), 175–185).

    These are the ratios r for which numerator − r·denominator is compatible with zero:
    (n − r·d)² ≤ t²·(V_n − 2r·V_nd + r²·V_d). Exact for normal means.

    Args:
        numerator: Estimated mean n.
        denominator: Estimated mean d.
        variances: Of the two means, (V_n, V_d): squared standard errors.
        covariance: V_nd of the two means.
        quantile: t, the two-sided quantile of Student's distribution that goes with the variances' degrees of freedom.
        is_positive: Whether the ratio is known not to be negative: the interval then lies in [0, inf], and where only
            the denominator may be zero it is [low, inf).

    Returns:
        Low and high end. Everything, (−inf, inf) or (0, inf), where the denominator can't be told from zero.

    >>> low, high = fieller_interval(2.0, 4.0, variances=(0.04, 0.04), covariance=0.0, quantile=2.0)
    >>> round(low, 3), round(high, 3)
    (0.393, 0.618)
    """
    t_sq = quantile**2
    # The set solves a·r² − 2h·r + c ≤ 0.
    a = denominator**2 - t_sq * variances[1]
    h = numerator * denominator - t_sq * covariance
    c = numerator**2 - t_sq * variances[0]
    root = math.sqrt(max(h**2 - a * c, 0.0))
    if not is_positive:
        return ((h - root) / a, (h + root) / a) if a > 0 else (-math.inf, math.inf)
    if a > 0 and denominator > 0:
        return max((h - root) / a, 0.0), max((h + root) / a, 0.0)
    if a < 0 < c and numerator > 0:  # the denominator may be zero, the numerator not
        return (h - root) / a, math.inf
    return 0.0, math.inf
