"""How many seeds a comparison needs: the power of the t-tests that decide it.

d       the contrast in units of one seed's standard deviation, |C| / (se·√n)
n       seeds
T       noncentral t with ncp = d·√n: what the test statistic is where the effect is as large as was seen
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy import stats

from bsopt.experiment.findings.contrasts import Contrast

__all__ = ["MOST_SEEDS", "POWER", "power_of_t_test", "seeds_to_decide"]

POWER = 0.8
"""The chance with which so many seeds decide, where the effect is as large as was seen."""
MOST_SEEDS = 100
"""Nobody is told to train more; the effect is then too small to matter, or too noisy."""


def power_of_t_test(effect: float, num_seeds: int, *, alpha: float, degrees_of_freedom: float | None = None) -> float:
    """Return the chance that a two-sided t-test finds an effect, on its own side of zero.

    Args:
        effect: d, in standard deviations of one seed.
        num_seeds: n, at least 2.
        alpha: Of the test, two-sided.
        degrees_of_freedom: n − 1, as for a paired test, where it is None.

    >>> round(power_of_t_test(1.0, 10, alpha=0.05), 3)
    0.803
    """
    freedom = num_seeds - 1.0 if degrees_of_freedom is None else degrees_of_freedom
    threshold = float(stats.t.isf(alpha / 2, freedom))
    shift = abs(effect) * math.sqrt(num_seeds)
    found = float(stats.nct.sf(threshold, freedom, shift))
    # scipy's noncentral t gives up far out in the tail, where the answer is as good as certain
    return found if math.isfinite(found) else float(stats.norm.sf(threshold - shift))


def seeds_to_decide(tests: Sequence[Contrast], *, alpha: float, power: float = POWER) -> int | None:
    """Return how many seeds let all of some contrasts be told from zero, where they are as large as was seen.

    The chance to miss is shared equally among them, so that they are all found with the power asked for, however they
    depend on each other.

    Args:
        tests: At least one.
        alpha: Of each test, two-sided.
        power: In (0, 1).

    Returns:
        Seeds in all, no fewer than there are; None where even `MOST_SEEDS` are too few.
    """
    needed = [_seeds(test, alpha=alpha, power=1.0 - (1.0 - power) / len(tests)) for test in tests]
    known = [seeds for seeds in needed if seeds is not None]
    return max(known) if len(known) == len(needed) else None


def _seeds(test: Contrast, *, alpha: float, power: float) -> int | None:
    if test.standard_error == 0:
        return test.num_seeds if test.estimate else None
    effect = abs(test.estimate) / (test.standard_error * math.sqrt(test.num_seeds))
    per_seed = test.degrees_of_freedom / (test.num_seeds - 1)  # 1 for a paired test

    def is_enough(seeds: int) -> bool:
        return power_of_t_test(effect, seeds, alpha=alpha, degrees_of_freedom=per_seed * (seeds - 1)) >= power

    candidates = np.arange(test.num_seeds, MOST_SEEDS + 1)
    if not len(candidates) or not is_enough(int(candidates[-1])):
        return None
    low, high = 0, len(candidates) - 1
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if is_enough(int(candidates[middle])) else (middle + 1, high)
    return int(candidates[low])
