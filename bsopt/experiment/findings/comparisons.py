"""The comparisons that a batch-size experiment allows, each from its table to an effect with an interval and a p.

Ratios are compared as logarithms.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

from bsopt.experiment.findings.contrasts import Contrast, Group, contrast, fraction_interval, trend_coefficients
from bsopt.experiment.findings.table import MEASUREMENTS, Table, UntestableError
from bsopt.laws.estimate import Estimate

__all__ = ["BestLrGrows", "Comparison", "Direction", "GapClosed", "LargerWins", "Ratio", "Trend"]

Direction: TypeAlias = Literal["grows", "shrinks"]


@dataclass(frozen=True, slots=True)
class Comparison:
    """What one comparison found.

    Attributes:
        effect: The compared quantity, a ratio, a fraction or an exponent, with its 95 % interval, which isn't
            corrected for the number of findings.
        p: Two-sided p-value of "no effect".
        agrees: Whether the effect points the way the finding says.
        num_seeds: That the comparison rests on.
        test: Its name.
        quantity: The effect in words, without its value: "best validation loss at 256 over that at 32".
    """

    effect: Estimate
    p: float
    agrees: bool
    num_seeds: int
    test: str
    quantity: str


@dataclass(frozen=True, slots=True)
class Trend:
    """A measurement grows, or shrinks, with the batch size within one arm.

    The least-squares line of log y over log B within each seed; the effect is the ratio of y that it gives
    between the largest and the smallest batch size.
    """

    arm: str
    measurement: str
    direction: Direction

    def compare(self, table: Table) -> Comparison:
        """Return the ratio of the measurement at the largest batch size to that at the smallest, along the line.

        Raises:
            UntestableError: The table lacks a group.
            TooFewSeedsError: A group has fewer runs than a test needs.
        """
        groups = table.groups(self.arm, self.measurement)
        sizes = list(groups)
        result = contrast(
            [_logs(group) for group in groups.values()],
            trend_coefficients([math.log(B) for B in sizes]),
            min_seeds=table.min_seeds,
        )
        return _as_ratio(
            result, f"{_words(self.measurement)} at {sizes[-1]} over that at {sizes[0]}", direction=self.direction
        )


@dataclass(frozen=True, slots=True)
class Ratio:
    """A measurement is higher, or lower, at the largest batch size of an arm than in another group.

    Attributes:
        arm: Of the numerator, at its largest batch size.
        against: "fixed_lr", at the same batch size; or "smallest", the smallest batch size at the fixed rate.
    """

    arm: str
    against: Literal["fixed_lr", "smallest"]
    measurement: str
    direction: Direction

    def compare(self, table: Table) -> Comparison:
        """Return the ratio of the measurement between the two groups.

        Raises:
            UntestableError: The table lacks a group.
            TooFewSeedsError: A group has fewer runs than a test needs.
        """
        groups, fixed = table.groups(self.arm, self.measurement), table.groups("fixed_lr", self.measurement)
        largest, smallest = max(groups), min(fixed)
        other = largest if self.against == "fixed_lr" else smallest
        if other not in fixed:
            raise UntestableError(f"arm 'fixed_lr' has no {self.measurement} at {other}")
        result = contrast([_logs(groups[largest]), _logs(fixed[other])], [1.0, -1.0], min_seeds=table.min_seeds)
        rates = "with the scaled learning rate over that with the fixed one"
        places = rates if self.against == "fixed_lr" else f"with the scaled learning rate over that at {smallest}"
        return _as_ratio(result, f"{_words(self.measurement)} at {largest} {places}", direction=self.direction)


@dataclass(frozen=True, slots=True)
class GapClosed:
    """Scaling the learning rate closes more than half of the gap between largest and smallest batch size.

    The fraction (F − S)/(F − R) of mean values, F and S the largest batch size at the fixed and at the scaled rate, R
    the smallest at the fixed one. It is more than half, and a gap is there, where both contrasts F − S − ½(F − R)
    and F − R are: p is the larger of the two p-values (an intersection-union test, Berger 1982), the interval
    Fieller's.
    """

    measurement: str
    gap: Direction

    def compare(self, table: Table) -> Comparison:
        """Return the fraction of the gap that the scaled learning rate closes.

        Raises:
            UntestableError: The table lacks a group, or there is no gap to close.
            TooFewSeedsError: A group has fewer runs than a test needs.
        """
        fixed, scaled = table.groups("fixed_lr", self.measurement), table.groups("scaled_lr", self.measurement)
        smallest, largest = min(fixed), max(fixed)
        if largest not in scaled:
            raise UntestableError(f"arm 'scaled_lr' has no {self.measurement} at {largest}")
        groups: list[Group] = [fixed[largest], scaled[largest], fixed[smallest]]
        part, whole, more = [1.0, -1.0, 0.0], [1.0, 0.0, -1.0], [0.5, -1.0, 0.5]
        gap = contrast(groups, whole, min_seeds=table.min_seeds)
        sign = 1.0 if self.gap == "grows" else -1.0
        if sign * gap.estimate <= 0:
            raise UntestableError(f"there is no gap in the {_words(self.measurement)} to close")
        closed = contrast(groups, part, min_seeds=table.min_seeds)
        excess = contrast(groups, more, min_seeds=table.min_seeds)
        low, high = fraction_interval(groups, part=part, whole=whole, min_seeds=table.min_seeds)
        return Comparison(
            effect=Estimate(closed.estimate / gap.estimate, low, high),
            p=max(gap.p, excess.p),
            agrees=sign * excess.estimate > 0,
            num_seeds=gap.num_seeds,
            test=_test_name(excess),
            quantity=f"fraction closed of the gap in {_words(self.measurement)} between {smallest} and {largest}",
        )


@dataclass(frozen=True, slots=True)
class LargerWins:
    """In an arm, some larger batch size reaches a lower value than the smallest one.

    Each larger batch size is compared with the smallest. The best of k such comparisons agrees with p times k
    (Bonferroni); that none wins needs all of them to be worse, with the largest of their p-values.
    """

    arm: str
    measurement: str

    def compare(self, table: Table) -> Comparison:
        """Return the ratio at the larger batch size that does best to the smallest one.

        Raises:
            UntestableError: The table lacks a group.
            TooFewSeedsError: A group has fewer runs than a test needs.
        """
        groups = table.groups(self.arm, self.measurement)
        smallest, *larger = groups
        results = {
            B: contrast([_logs(groups[B]), _logs(groups[smallest])], [1.0, -1.0], min_seeds=table.min_seeds)
            for B in larger
        }
        best = min(results, key=lambda B: (results[B].p if results[B].estimate < 0 else 1.0, results[B].estimate))
        result = results[best]
        wins = result.estimate < 0
        p = min(1.0, len(results) * result.p) if wins else max(found.p for found in results.values())
        quantity = f"{_words(self.measurement)} at {best} over that at {smallest}, both at the higher rate"
        return replace(_as_ratio(result, quantity, direction="shrinks"), p=p)


@dataclass(frozen=True, slots=True)
class BestLrGrows:
    """On the grid, the learning rate with the lowest validation loss grows with the batch size.

    The exponent of lr* ∝ B^a, a least-squares line within each seed. The grid's step bounds the variance from
    below, so that five seeds which agree on a coarse grid aren't taken for certainty.
    """

    def compare(self, table: Table) -> Comparison:
        """Return the exponent of the best learning rate in the batch size.

        Raises:
            UntestableError: The table lacks a group.
            TooFewSeedsError: A group has fewer runs than a test needs.
        """
        groups, step = table.best_lr()
        x = [math.log2(B) for B in groups]
        coefficients = [c / (x[-1] - x[0]) for c in trend_coefficients(x)]
        result = contrast(list(groups.values()), coefficients, min_seeds=table.min_seeds, resolution=step)
        low, high = result.interval()
        return Comparison(
            effect=Estimate(result.estimate, low, high),
            p=result.p,
            agrees=result.estimate > 0,
            num_seeds=result.num_seeds,
            test=_test_name(result),
            quantity=f"exponent of the best learning rate in the batch size, {min(groups)} to {max(groups)}",
        )


def _as_ratio(result: Contrast, quantity: str, *, direction: Direction) -> Comparison:
    """Return a contrast of logarithms as the ratio that it is the logarithm of."""
    low, high = result.interval()
    return Comparison(
        effect=Estimate(math.exp(result.estimate), math.exp(low), math.exp(high)),
        p=result.p,
        agrees=result.estimate > 0 if direction == "grows" else result.estimate < 0,
        num_seeds=result.num_seeds,
        test=_test_name(result),
        quantity=quantity,
    )


def _test_name(result: Contrast) -> str:
    return "paired t-test" if result.is_paired else "Welch's t-test"


def _logs(group: Group) -> dict[int, float]:
    return {seed: math.log(value) for seed, value in group.items()}


def _words(measurement: str) -> str:
    return MEASUREMENTS.get(measurement, measurement).partition(",")[0]
