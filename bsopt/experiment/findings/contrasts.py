"""Comparing groups of training runs over seeds: every comparison is a contrast of group means.

    y_gs   measurement (or its logarithm) of the run in group g with seed s
    c_g    the contrast's coefficients; a trend, a difference and a gap differ in these alone
    C      Σ_g c_g·E[y_g], what a comparison is about

Groups that share seeds (equal initial weights) are compared within each seed: a t-test on C_s = Σ_g c_g·y_gs.
Groups that don't are compared by their means: Welch's t-test, generalised to any contrast.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from scipy import stats

from bsopt.errors import ConfigError
from bsopt.laws.estimate import fieller_interval

__all__ = [
    "Contrast",
    "Group",
    "Judged",
    "TooFewSeedsError",
    "contrast",
    "fraction_interval",
    "holm",
    "trend_coefficients",
]

Group: TypeAlias = Mapping[int, float]
"""Seed -> value, the runs of one configuration."""


class TooFewSeedsError(ConfigError):
    """A group holds fewer runs than a test needs."""


@dataclass(frozen=True, slots=True)
class Contrast:
    """An estimated contrast.

    Attributes:
        estimate: C.
        standard_error: Of C.
        degrees_of_freedom: Of the t-distribution.
        num_seeds: Seeds in common, or the fewest in any group where they aren't.
        is_paired: Whether the groups were compared within seeds.
    """

    estimate: float
    standard_error: float
    degrees_of_freedom: float
    num_seeds: int
    is_paired: bool

    @property
    def test(self) -> str:
        """The name of the test."""
        return "paired t-test" if self.is_paired else "Welch's t-test"

    @property
    def p(self) -> float:
        """The two-sided p-value of C = 0."""
        if self.standard_error == 0:
            return 1.0 if self.estimate == 0 else 0.0
        return float(2 * stats.t.sf(abs(self.estimate) / self.standard_error, self.degrees_of_freedom))

    def interval(self, confidence: float = 0.95) -> tuple[float, float]:
        """The confidence interval of C."""
        half = _quantile(self, confidence) * self.standard_error
        return self.estimate - half, self.estimate + half


def contrast(
    groups: Sequence[Group],
    coefficients: Sequence[float],
    *,
    min_seeds: int = 5,
    resolution: float = 0.0,
) -> Contrast:
    """Return C = Σ_g c_g·E[y_g] with its standard error.

    Paired, where at least `min_seeds` seeds are common to all groups: the mean of C_s, n − 1 degrees of
    freedom. Otherwise unpaired: variance Σ c_g²·s_g²/n_g with Satterthwaite's degrees of freedom
    (Satterthwaite 1946; Welch 1947 for two groups).

    Args:
        groups: Values by seed.
        coefficients: One per group.
        min_seeds: The fewest runs per group to test with.
        resolution: Step of a grid that values were read off: their variance is at least resolution²/12.

    Raises:
        TooFewSeedsError: A group has fewer than `min_seeds` runs.

    >>> result = contrast([{0: 1.0, 1: 2.0, 2: 3.0}, {0: 2.0, 1: 4.0, 2: 6.0}], [-1, 1], min_seeds=3)
    >>> result.estimate, round(result.p, 4)
    (2.0, 0.0742)
    """
    floor = resolution**2 / 12
    seeds = sorted(set.intersection(*(set(group) for group in groups)))
    if len(seeds) >= min_seeds:
        values = np.array([sum(c * g[seed] for c, g in zip(coefficients, groups, strict=True)) for seed in seeds])
        variance = max(float(values.var(ddof=1)), floor * sum(c**2 for c in coefficients))
        return Contrast(float(values.mean()), math.sqrt(variance / len(seeds)), len(seeds) - 1, len(seeds), True)  # noqa: FBT003
    fewest = min(len(group) for group in groups)
    if fewest < min_seeds:
        runs = "1 run" if fewest == 1 else f"{fewest} runs"
        raise TooFewSeedsError(f"{runs} in the smallest group, at least {min_seeds} are needed")
    means = [float(np.mean(list(group.values()))) for group in groups]
    parts = [
        c**2 * max(float(np.var(list(group.values()), ddof=1)), floor) / len(group)
        for c, group in zip(coefficients, groups, strict=True)
    ]
    total = sum(parts)
    spread = sum(part**2 / (len(group) - 1) for part, group in zip(parts, groups, strict=True))
    freedom = total**2 / spread if spread > 0 else float(fewest - 1)
    estimate = sum(c * mean for c, mean in zip(coefficients, means, strict=True))
    return Contrast(estimate, math.sqrt(total), freedom, fewest, False)  # noqa: FBT003


def trend_coefficients(x: Sequence[float]) -> list[float]:
    """Return the coefficients whose contrast is the least-squares line's rise from the smallest x to the largest.

    >>> trend_coefficients([5.0, 6.0, 7.0, 8.0])
    [-0.9, -0.3, 0.3, 0.9]
    """
    values = np.asarray(x, dtype=float)
    centred = values - values.mean()
    rise = centred * np.ptp(values) / (centred**2).sum()
    return [float(c) for c in np.round(rise, 12)]


def fraction_interval(
    groups: Sequence[Group],
    *,
    part: Sequence[float],
    whole: Sequence[float],
    min_seeds: int = 5,
    confidence: float = 0.95,
) -> tuple[float, float]:
    """Return Fieller's interval of the ratio of two contrasts, `bsopt.laws.estimate.fieller_interval`.

    Unbounded, (−inf, inf), where the whole can't be told from zero: no fraction of nothing.

    Args:
        groups: Values by seed.
        part: Coefficients of the numerator.
        whole: Coefficients of the denominator.
        min_seeds: As in `contrast`.
        confidence: Of the interval.
    """
    numerator = contrast(groups, part, min_seeds=min_seeds)
    denominator = contrast(groups, whole, min_seeds=min_seeds)
    both = contrast(groups, [a + b for a, b in zip(part, whole, strict=True)], min_seeds=min_seeds)
    var_n, var_d = numerator.standard_error**2, denominator.standard_error**2
    return fieller_interval(
        numerator.estimate,
        denominator.estimate,
        variances=(var_n, var_d),
        covariance=(both.standard_error**2 - var_n - var_d) / 2,
        quantile=_quantile(denominator, confidence),
    )


@dataclass(frozen=True, slots=True)
class Judged:
    """One p-value of a family after Holm's correction.

    Attributes:
        p: Corrected; below alpha where "no effect" is rejected.
        alpha: The level at which the one test stands: the uncorrected p is below it exactly where the corrected one is
            below the family's alpha, so that an interval at this level leaves out "no effect" exactly then.
    """

    p: float
    alpha: float


def holm(p_values: Sequence[float], *, alpha: float = 0.05) -> list[Judged]:
    """Return p-values corrected for their number, in the same order (Holm 1979).

    Args:
        p_values: Of all tests of the family.
        alpha: Of the family.

    >>> [judged.p for judged in holm([0.01, 0.04, 0.03])]
    [0.03, 0.06, 0.06]
    >>> [round(judged.alpha, 4) for judged in holm([0.01, 0.04, 0.03])]
    [0.0167, 0.025, 0.025]
    """
    order, num = np.argsort(p_values, kind="stable"), len(p_values)
    corrected, running, num_rejected = [0.0] * num, 0.0, 0
    for rank, index in enumerate(order):
        running = max(running, min(1.0, (num - rank) * p_values[index]))
        corrected[index] = running
        num_rejected += running < alpha
    ranks = {int(index): min(rank, num_rejected) for rank, index in enumerate(order)}
    return [Judged(p, alpha / (num - ranks[index])) for index, p in enumerate(corrected)]


def _quantile(estimated: Contrast, confidence: float) -> float:
    return float(stats.t.ppf(0.5 + confidence / 2, estimated.degrees_of_freedom))
