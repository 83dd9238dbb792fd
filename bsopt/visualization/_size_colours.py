"""The colours of batch sizes: one ordered scale for each study, the same in all of its figures.

From blue over green to gold: lightness rises evenly (L* 42 to 77), so that the order is also seen in grey and by
colour-blind readers, and both ends are told from a white and from a near-black page. Shapes are left for how a trial
ended.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from bsopt.trial.record import StudyInfo
from bsopt.visualization._theme import Look
from bsopt.visualization.study_data import StudyData

__all__ = ["SizeColours", "colours_of", "size_colours"]

_STOPS = ("#4F53CA", "#2E7BBA", "#2D9C91", "#8DB149", "#EFB800")
MOST_TICKS = 6
"""On a colour bar."""


@dataclass(frozen=True, slots=True)
class SizeColours:
    """The scale from the smallest to the largest batch size, in samples, even in their logarithm."""

    smallest: float
    largest: float

    def colour(self, size: float) -> str:
        """Return a batch size's colour as `#rrggbb`.

        >>> SizeColours(8, 1024).colour(8), SizeColours(8, 1024).colour(1024)
        ('#4f53ca', '#efb800')
        """
        if self.largest <= self.smallest:
            return _between(0.25)
        return _between(math.log(size / self.smallest) / math.log(self.largest / self.smallest))

    def look(self, size: float | None) -> Look:
        """Return how a series of one batch size is drawn; the scale's first colour where the size isn't known."""
        return Look(self.colour(size or self.smallest), "circle")

    def marker(self, sizes: Sequence[float]) -> dict[str, Any]:
        """Return the colours of points of these batch sizes, with a bar that tells them."""
        low, high = math.log2(self.smallest), math.log2(self.largest)
        octaves = list(range(math.ceil(low), math.floor(high) + 1))
        ticks = octaves[:: max(1, math.ceil(len(octaves) / MOST_TICKS))]
        return {
            "color": [math.log2(size) for size in sizes],
            "colorscale": [[place / (len(_STOPS) - 1), stop] for place, stop in enumerate(_STOPS)],
            "cmin": low,
            "cmax": high if high > low else low + 1.0,
            "showscale": True,
            "colorbar": {
                "title": {"text": "batch size", "side": "right", "font": {"size": 12}},
                "tickvals": ticks,
                "ticktext": [f"{2**tick}" for tick in ticks],
                "thickness": 12,
                "outlinewidth": 0,
                "tickfont": {"size": 11},
            },
        }


def size_colours(sources: Iterable[StudyData]) -> SizeColours:
    """Return the scale of a study, or of several that stand in one figure."""
    scales = [colours_of(data.info, data.batch_sizes) for data in sources]
    return SizeColours(min(scale.smallest for scale in scales), max(scale.largest for scale in scales))


def colours_of(info: StudyInfo, sizes: Iterable[float]) -> SizeColours:
    """Return the scale over what a study searches and the batch sizes that ran."""
    found = [float(size) for size in (*sizes, *info.batch_sizes, *(info.batch_size_range or ())) if size]
    return SizeColours(min(found, default=1.0), max(found, default=1.0))


def _between(share: float) -> str:
    """Return the colour at a share of the scale."""
    place = min(max(share, 0.0), 1.0) * (len(_STOPS) - 1)
    first = min(int(place), len(_STOPS) - 2)
    below, above = (tuple(int(_STOPS[first + i][k : k + 2], 16) for k in (1, 3, 5)) for i in (0, 1))
    mixed = (round(a + (place - first) * (b - a)) for a, b in zip(below, above, strict=True))
    return "#" + "".join(f"{channel:02x}" for channel in mixed)
