"""What is believed of the value at every batch size and learning rate."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import numpy as np
from numpy.typing import NDArray

from bsopt.visualization.study_data import StudyData

__all__ = ["Surface", "believed_surface"]

MIN_TRIALS = 5
NUM_SIZES, NUM_RATES = 12, 21


@dataclass(frozen=True, slots=True)
class Surface:
    """The expected value on a grid: `values[i][j]` is at learning rate i and batch size j, in the study's unit.

    `sd` holds the standard deviations of what is believed, without the noise between seeds.
    """

    batch_sizes: tuple[float, ...]
    lrs: tuple[float, ...]
    values: tuple[tuple[float, ...], ...]
    sd: tuple[tuple[float, ...], ...]


def believed_surface(data: StudyData) -> Surface | None:
    """Return the belief that answers and laws rest on, over batch size and learning rate.

    None below five trials with a value, or without a range in both.
    """
    belief, ranges = data.fits.surface, _ranges(data)
    if ranges is None or belief is None or belief.num_finished < MIN_TRIALS:
        return None
    sizes, rates = (np.geomspace(*span, num).tolist() for span, num in zip(ranges, (NUM_SIZES, NUM_RATES), strict=True))
    values, sd = belief.believed(sizes, rates)
    return Surface(tuple(sizes), tuple(rates), _rows(values.T), _rows(sd.T))


def _rows(table: NDArray[np.float64]) -> tuple[tuple[float, ...], ...]:
    return tuple(tuple(row) for row in table.tolist())


def _ranges(data: StudyData) -> tuple[tuple[float, float], tuple[float, float]] | None:
    """Return the ranges that hold the searched space and every trial."""
    placed = [record for record in data.records if record.is_placed]
    sizes = [float(cast(int, r.batch_size)) for r in placed] + [float(b) for b in data.info.batch_size_range or ()]
    rates = [cast(float, r.lr) for r in placed] + list(data.info.lr_range or ())
    if not placed or min(sizes) == max(sizes) or min(rates) == max(rates):
        return None
    return (min(sizes), max(sizes)), (min(rates), max(rates))
