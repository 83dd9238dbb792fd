"""A comparison by several measures of one thing, which a verdict needs to agree."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

from bsopt.experiment.findings.comparisons import Comparison, Ratio, Trend
from bsopt.experiment.findings.table import MEASUREMENTS, Table

__all__ = ["Agreement"]


@dataclass(frozen=True, slots=True)
class Agreement:
    """Several measures of one thing point the same way.

    Each measure that the runs have is compared by itself. The finding is supported, or contradicted, where all of them
    say so: p is the largest of theirs (an intersection-union test, Berger 1982), 1 where they don't point the same
    way. The effect is the first measure's; the interval covers those of all.

    Attributes:
        what: That which they measure, in a word.
        parts: The same comparison of each measure.
    """

    what: str
    parts: tuple[Trend | Ratio, ...]

    def compare(self, table: Table) -> Comparison:
        """Return what the measures say together.

        Raises:
            UntestableError: The table has none of the measures.
            TooFewSeedsError: A group has fewer runs than a test needs.
        """
        measures = [part for part in self.parts if table.has(part.measurement)] or [self.parts[0]]
        found = {part.measurement: part.compare(table) for part in measures}
        first, *_ = all_of = list(found.values())
        is_one_way = len({one.agrees for one in all_of}) == 1
        measure = MEASUREMENTS[next(iter(found))].partition(",")[0]
        return replace(
            first,
            interval=partial(_hull, all_of),
            p=max(one.p for one in all_of) if is_one_way else 1.0,
            tests=tuple(test for one in all_of for test in one.tests),
            quantity=first.quantity.replace(measure, self.what, 1),
            remark=_by_measure(found, is_one_way=is_one_way),
            is_decidable=is_one_way or not _is_disagreement(all_of),
        )


def _hull(found: Sequence[Comparison], confidence: float) -> tuple[float, float]:
    ends = [one.interval(confidence) for one in found]
    return min(low for low, _ in ends), max(high for _, high in ends)


def _is_disagreement(found: Sequence[Comparison], alpha: float = 0.05) -> bool:
    """Whether some measures say the one and some the other, beyond chance."""
    sure = {one.agrees for one in found if one.p * len(found) < alpha}
    return len(sure) == 2


def _by_measure(found: dict[str, Comparison], *, is_one_way: bool) -> str:
    if len(found) == 1:
        return f"By one measure alone: {_named(next(iter(found)))}."
    said = ", ".join(f"{_named(name)} {one.effect:.3g} (p = {one.p:.2g})" for name, one in found.items())
    return f"{'All measures point the same way' if is_one_way else 'The measures do not agree'}: {said}."


def _named(measurement: str) -> str:
    return MEASUREMENTS[measurement].partition(",")[0]
