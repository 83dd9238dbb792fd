"""The distribution of the updates' norms ‖θ_{t+1} − θ_t‖, from a stream of them that isn't kept."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["NormHistogram", "UpdateNormSummary", "summarize_update_norms"]

_RELATIVE_ERROR = 0.01
_GAMMA = (1 + _RELATIVE_ERROR) / (1 - _RELATIVE_ERROR)
_QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


@dataclass(frozen=True, slots=True)
class UpdateNormSummary:
    """The distribution of ‖θ_{t+1} − θ_t‖ over the measured updates.

    Attributes:
        num_measured: Updates measured.
        num_updates: Updates made.
        mean: Mean norm.
        minimum: Smallest norm.
        maximum: Largest norm.
        quantiles: Probability -> norm, at most 1 % off.
        bin_edges: Edges of the histogram's bins, increasing; one more than `bin_counts`.
        bin_counts: Updates per bin.
    """

    num_measured: int
    num_updates: int
    mean: float
    minimum: float
    maximum: float
    quantiles: Mapping[float, float]
    bin_edges: tuple[float, ...]
    bin_counts: tuple[int, ...]

    @property
    def median(self) -> float:
        """The norm that half of the measured updates stay below."""
        return self.quantiles[0.5]


class NormHistogram:
    """A streaming histogram of positive numbers whose quantiles are at most 1 % off.

    Bin i holds (γ^(i−1), γ^i] with γ = 1.01/0.99 (DDSketch: Masson, Rim & Lee 2019, arXiv 1908.10693, section 2.1).
    A factor of ten takes 115 bins; empty ones aren't stored.

    Args:
        bins: Bin number -> count.
        total: Sum of the numbers.
        minimum: The smallest.
        maximum: The largest.
    """

    def __init__(
        self,
        bins: Mapping[int, int] | None = None,
        *,
        total: float = 0.0,
        minimum: float = math.inf,
        maximum: float = 0.0,
    ) -> None:
        self._bins = dict(bins or {})
        self._total = total
        self._minimum = minimum
        self._maximum = maximum

    @property
    def count(self) -> int:
        """How many numbers were added."""
        return sum(self._bins.values())

    @property
    def mean(self) -> float:
        """Their mean; NaN where there are none."""
        return self._total / self.count if self._bins else math.nan

    @property
    def minimum(self) -> float:
        """The smallest; infinite where there are none."""
        return self._minimum

    @property
    def maximum(self) -> float:
        """The largest; 0 where there are none."""
        return self._maximum

    def state(self) -> dict[str, Any]:
        """Return the arguments that make the same histogram again, as plain data."""
        state = {"total": self._total, "minimum": self._minimum, "maximum": self._maximum}
        return {"bins": dict(self._bins), **state}

    def add(self, value: float) -> None:
        """Count a positive, finite number."""
        index = math.ceil(math.log(value) / math.log(_GAMMA))
        self._bins[index] = self._bins.get(index, 0) + 1
        self._total += value
        self._minimum = min(self._minimum, value)
        self._maximum = max(self._maximum, value)

    def quantile(self, q: float) -> float:
        """Return the value below which a share q of the numbers lies; NaN where there are none."""
        rank = q * (self.count - 1)
        passed = 0
        for index in sorted(self._bins):
            passed += self._bins[index]
            if passed > rank:
                return min(max(2.0 * _GAMMA**index / (_GAMMA + 1.0), self._minimum), self._maximum)
        return math.nan

    def edges_and_counts(self, *, max_bins: int = 40) -> tuple[tuple[float, ...], tuple[int, ...]]:
        """Return the edges and counts, neighbouring bins joined until there are at most `max_bins`, evenly in log."""
        if not self._bins:
            return (), ()
        first, last = min(self._bins), max(self._bins)
        width = math.ceil((last - first + 1) / max_bins)
        num_bins = math.ceil((last - first + 1) / width)
        counts = [0] * num_bins
        for index, count in self._bins.items():
            counts[(index - first) // width] += count
        return tuple(_GAMMA ** (first - 1 + i * width) for i in range(num_bins + 1)), tuple(counts)


def summarize_update_norms(norms: NormHistogram, *, num_updates: int) -> UpdateNormSummary | None:
    """Return the distribution of the measured updates; None where none was measured.

    Args:
        norms: Of the measured updates.
        num_updates: Updates made.
    """
    if norms.count == 0:
        return None
    edges, counts = norms.edges_and_counts()
    return UpdateNormSummary(
        num_measured=norms.count,
        num_updates=num_updates,
        mean=norms.mean,
        minimum=norms.minimum,
        maximum=norms.maximum,
        quantiles={q: norms.quantile(q) for q in _QUANTILES},
        bin_edges=edges,
        bin_counts=counts,
    )
