"""A trial's own reports as numbers, and whether they diverged. What makes a plateau: `bsopt.laws.plateau`."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import optuna
from numpy.typing import NDArray
from optuna.trial import FrozenTrial

from bsopt.search.history import finite_reports, study_sign
from bsopt.units import format_number

__all__ = ["Reports", "divergence"]

SCORE = 1.0
"""Size of what is maximised, as R² or a correlation: it may be near 0 at first."""

_EXPLODED = 10.0  # sizes of the earlier values that a report lies above the first


@dataclass(frozen=True, slots=True, eq=False)
class Reports:
    """A trial's finite reports by increasing step, lower better.

    Attributes:
        best: Best value so far in the study's own direction.
        latest: The last two reports, finite or not.
        scale: Size of the values before the latest two: their range or the first one, whichever is larger, and of
            values that are maximised `SCORE` at least.
    """

    sign: float
    steps: NDArray[np.float64]
    values: NDArray[np.float64]
    best: float
    latest: tuple[float, ...]
    scale: float

    @classmethod
    def of(cls, study: optuna.Study, trial: FrozenTrial) -> Reports:
        """Return a trial's reports, in the first objective's direction."""
        sign = study_sign(study)
        steps, values = finite_reports(trial)
        values = sign * values
        latest = tuple(sign * value for _, value in sorted(trial.intermediate_values.items())[-2:])
        best = float(sign * values.min()) if len(values) else math.nan
        least = SCORE if sign < 0 else 0.0
        scale = max(float(np.ptp(values[:-2])), abs(float(values[0])), least) if len(values) > 2 else math.inf
        return cls(sign, steps, values, best, latest, scale)


def divergence(reports: Reports) -> str | None:
    """Return how a trial diverged: its last two reports aren't finite or are far worse than its first; else None."""
    if len(reports.latest) < 2:
        return None
    finite = [value for value in reports.latest if math.isfinite(value)]
    if not finite:
        told = [reports.sign * value for value in reports.latest]
        return f"diverged: the last two reports are {told[0]} and {told[1]}"
    has_size = len(reports.values) >= 3 and reports.scale > 0.0
    if has_size and min(finite) > reports.values[0] + _EXPLODED * reports.scale:
        first, last = reports.sign * reports.values[0], reports.sign * finite[-1]
        return f"diverged to {format_number(last)} from {format_number(first)} at first"
    return None
