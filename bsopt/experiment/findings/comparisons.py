"""The comparisons that a batch-size experiment allows, each from its table to an effect with an interval and a p.

Ratios are compared as logarithms.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal, TypeAlias

from bsopt.experiment.findings.contrasts import Contrast, Group, fraction_interval, trend_coefficients
from bsopt.experiment.findings.table import MEASUREMENTS, Table, UntestableError

__all__ = ["BestLrGrows", "Comparison", "Direction", "GapClosed", "Interval", "LargerWins", "Ratio", "Trend"]

Direction: TypeAlias = Literal["grows", "shrinks"]
Interval: TypeAlias = Callable[[float], tuple[float, float]]
"""From a confidence in (0, 1) to the ends of the effect's interval."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """What one comparison found.

    Attributes:
        effect: The compared quantity.
        interval: Its interval at any confidence; at 1 − p it just touches "no effect".
        p: Two-sided p-value of "no effect".
        agrees: Whether the effect points the way the finding says.
        tests: The contrasts that a verdict needs told from zero, all of them.
        quantity: The effect in words, without its value: "best validation loss at 256 over that at 32".
        places: (arm, batch size) of every group that was compared; more seeds are trained there.
        num_looks: How often the runs that it rests on had been looked at before the last were trained, plus one.
        remark: A sentence to be read beside the effect; empty for none.
        is_decidable: Whether more seeds could bring a verdict.
        multiplicity: Of how many tests this is the best: each of `tests` stands at a level so many times stricter.
    """

    effect: float
    interval: Interval
    p: float
    agrees: bool
    tests: tuple[Contrast, ...]
    quantity: str
    places: tuple[tuple[str, int], ...]
    num_looks: int = 1
    remark: str = ""
    is_decidable: bool = True
    multiplicity: int = 1

    @property
    def num_seeds(self) -> int:
        """That the comparison rests on."""
        return min(test.num_seeds for test in self.tests)


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
        result = table.contrast(
            self.measurement,
            [_logs(group) for group in groups.values()],
            trend_coefficients([math.log(B) for B in sizes]),
        )
        return _as_ratio(
            result,
            f"{_words(self.measurement)} at {sizes[-1]} over that at {sizes[0]}",
            direction=self.direction,
            places=[(self.arm, B) for B in sizes],
            table=table,
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
            raise UntestableError(f"arm 'fixed_lr' has no {_words(self.measurement)} at {other}")
        result = table.contrast(self.measurement, [_logs(groups[largest]), _logs(fixed[other])], [1.0, -1.0])
        scaled = " with the scaled learning rate" if self.arm == "scaled_lr" else ""
        rest = " with the fixed one" if self.against == "fixed_lr" else f" at {smallest}"
        return _as_ratio(
            result,
            f"{_words(self.measurement)} at {largest}{scaled} over that{rest}",
            direction=self.direction,
            places=[(self.arm, largest), ("fixed_lr", other)],
            table=table,
        )


@dataclass(frozen=True, slots=True)
class GapClosed:
    """Scaling the learning rate closes most of the gap between largest and smallest batch size, and doesn't overshoot.

    The fraction (F − S)/(F − R) of mean values, F and S the largest batch size at the fixed and at the scaled rate, R
    the smallest at the fixed one. What is left of the gap, on either side, is less than half of it: the fraction lies
    between ½ and 1½. That, and that there is a gap, is a matter of the contrasts F − S − ½(F − R), 1½(F − R) − (F − S)
    and F − R: all of them are needed to support it, p being the largest of their p-values (an intersection-union
    test, Berger 1982); too small a fraction needs the first and the last, too large a one the last two. The interval
    is Fieller's.
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
            raise UntestableError(f"arm 'scaled_lr' has no {_words(self.measurement)} at {largest}")
        groups: list[Group] = [fixed[largest], scaled[largest], fixed[smallest]]
        sign = 1.0 if self.gap == "grows" else -1.0

        def told(*coefficients: float) -> Contrast:
            return table.contrast(self.measurement, groups, [sign * c for c in coefficients])

        part, whole = [1.0, -1.0, 0.0], [1.0, 0.0, -1.0]
        gap, enough, within = told(*whole), told(0.5, -1.0, 0.5), told(0.5, 1.0, -1.5)
        if gap.estimate <= 0:
            raise UntestableError(f"there is no gap in the {_words(self.measurement)} to close")
        if enough.estimate <= 0:
            tests: tuple[Contrast, ...] = (gap, enough)
        else:
            tests = (gap, within) if within.estimate <= 0 else (gap, enough, within)
        remark = f"It goes past {smallest} by more than half of the gap." if within.estimate <= 0 else ""
        interval = partial(_fraction_interval, groups, part, whole, table.min_seeds)
        places = (("fixed_lr", largest), ("scaled_lr", largest), ("fixed_lr", smallest))
        return Comparison(
            effect=told(*part).estimate / gap.estimate,
            interval=interval,
            p=max(test.p for test in tests),
            agrees=len(tests) == 3,
            tests=tests,
            quantity=f"fraction closed of the gap in {_words(self.measurement)} between {smallest} and {largest}",
            places=places,
            num_looks=table.num_looks(places),
            remark=remark,
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
        """Return the ratio to the smallest batch size of the larger one that comes closest to beating it.

        Raises:
            UntestableError: The table lacks a group.
            TooFewSeedsError: A group has fewer runs than a test needs.
        """
        groups = table.groups(self.arm, self.measurement)
        smallest, *larger = groups
        results = {
            B: table.contrast(self.measurement, [_logs(groups[B]), _logs(groups[smallest])], [1.0, -1.0])
            for B in larger
        }
        best = min(results, key=lambda B: results[B].p if results[B].estimate < 0 else 2.0 - results[B].p)
        result = results[best]
        num = len(results) if result.estimate < 0 else 1
        found = _as_ratio(
            result,
            f"{_words(self.measurement)} at {best} over that at {smallest}, both at the higher rate",
            direction="shrinks",
            places=[(self.arm, B) for B in groups],
            table=table,
        )
        level = found.interval
        return replace(
            found,
            interval=lambda confidence: level(1.0 - (1.0 - confidence) / num),
            p=min(1.0, num * result.p),
            tests=(result,) if num > 1 else tuple(results.values()),
            multiplicity=num,
        )


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
        result = table.contrast("best_val_loss", list(groups.values()), coefficients, resolution=step)
        places = tuple(("grid", B) for B in groups)
        return Comparison(
            effect=result.estimate,
            interval=result.interval,
            p=result.p,
            agrees=result.estimate > 0,
            tests=(result,),
            quantity=f"exponent of the best learning rate in the batch size, {min(groups)} to {max(groups)}",
            places=places,
            num_looks=table.num_looks(places),
        )


def _as_ratio(
    result: Contrast, quantity: str, *, direction: Direction, places: Sequence[tuple[str, int]], table: Table
) -> Comparison:
    """Return a contrast of logarithms as the ratio that it is the logarithm of."""
    return Comparison(
        effect=math.exp(result.estimate),
        interval=partial(_ratio_interval, result),
        p=result.p,
        agrees=result.estimate > 0 if direction == "grows" else result.estimate < 0,
        tests=(result,),
        quantity=quantity,
        places=tuple(places),
        num_looks=table.num_looks(places),
    )


def _ratio_interval(result: Contrast, confidence: float) -> tuple[float, float]:
    low, high = result.interval(confidence)
    return _exp(low), _exp(high)


def _fraction_interval(
    groups: Sequence[Group], part: Sequence[float], whole: Sequence[float], min_seeds: int, confidence: float
) -> tuple[float, float]:
    return fraction_interval(groups, part=part, whole=whole, min_seeds=min_seeds, confidence=confidence)


def _exp(value: float) -> float:
    return math.exp(value) if value < 700.0 else math.inf


def _logs(group: Group) -> Mapping[int, float]:
    return {seed: math.log(value) for seed, value in group.items()}


def _words(measurement: str) -> str:
    return MEASUREMENTS.get(measurement, measurement).partition(",")[0]
