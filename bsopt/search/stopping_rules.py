"""What a trial's own reports say: whether it diverged, still improves, or has gone flat."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import optuna
from numpy.typing import NDArray
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial
from scipy.special import ndtr

from bsopt.errors import ConfigError
from bsopt.laws import plateau

__all__ = ["RULES", "Reports", "chance_of_a_plateau", "divergence", "flat_for"]

RULES = ("noise", "keras", "relative", "prechelt_gl", "prechelt_up")
"""What `rule` may be: how a plateau is told from progress."""

_EXPLODED = 10.0
_STRIPS = 3  # UP_3
_SAME = 0.1  # final values this share of the spread apart could be two seeds of one configuration


@dataclass(frozen=True, slots=True, eq=False)
class Reports:
    """A trial's finite reports by increasing step, lower better.

    Attributes:
        best: Best value so far in the study's own direction.
        latest: The last two reports, finite or not.
        scale: Size of the values before the latest two: their range or the first one, whichever is larger.
    """

    sign: float
    steps: NDArray[np.float64]
    values: NDArray[np.float64]
    best: float
    latest: tuple[float, ...]
    scale: float

    @classmethod
    def of(cls, study: optuna.Study, trial: FrozenTrial) -> Reports:
        sign = -1.0 if study.directions[0] == StudyDirection.MAXIMIZE else 1.0
        pairs = np.array(sorted(trial.intermediate_values.items()), dtype=float).reshape(-1, 2)
        latest = tuple(float(value) for value in sign * pairs[-2:, 1])
        pairs = pairs[np.isfinite(pairs[:, 1])]
        steps, values = pairs[:, 0], sign * pairs[:, 1]
        best = float(sign * values.min()) if len(values) else math.nan
        scale = max(float(np.ptp(values[:-2])), abs(float(values[0]))) if len(values) > 2 else math.inf
        return cls(sign, steps, values, best, latest, scale)


def divergence(reports: Reports) -> str | None:
    """Return how a trial diverged: its last two reports aren't finite or are far worse than its first; else None."""
    if len(reports.latest) < 2:
        return None
    finite = [value for value in reports.latest if math.isfinite(value)]
    if not finite:
        return f"diverged: the last two reports are {reports.latest[0]} and {reports.latest[1]}"
    if len(reports.values) >= 3 and min(finite) > reports.values[0] + _EXPLODED * reports.scale:
        first, last = reports.sign * reports.values[0], reports.sign * finite[-1]
        return f"diverged to {last:.4g} from {first:.4g} at first"
    return None


def flat_for(reports: Reports, patience: float | None, *, rule: str, min_delta: float) -> float | None:
    """Return for how many steps a trial hasn't improved by a rule; None where it improves or is too young.

    Args:
        reports: At least one.
        patience: Distance in steps without progress that makes a plateau; None where it isn't known yet.
        rule: One of `RULES`, as `PlateauPruner` describes them.
        min_delta: The least improvement that counts, in the rule's unit.

    Raises:
        ConfigError: "prechelt_gl" with values that aren't positive.
    """
    if patience is None or reports.steps[-1] - reports.steps[0] < patience:
        return None
    if rule == "noise":
        found = plateau.plateau_test(reports.steps, reports.values, patience=patience, min_delta=min_delta)
        return found.flat_for if found.is_plateau else None
    if rule == "prechelt_gl":
        return _flat_by_loss(reports, alpha=min_delta)
    if rule == "prechelt_up":
        return patience if _rises(reports, patience) else None
    share = min_delta if rule == "relative" else 0.0
    flat = reports.steps[-1] - _last_record(reports, 0.0 if share else min_delta, share)
    return float(flat) if flat >= patience else None


def chance_of_a_plateau(reports: Reports, end: float, best: float, spread: float) -> float:
    """Chance that a flat curve ends near the best, by its own shape; runs a tenth of the spread apart are equal."""
    found = plateau.extrapolate(reports.steps, reports.values, end=max(end, float(reports.steps[-1])))
    if found.status == "too_few":
        return math.nan
    noise = plateau.noise_sd(reports.steps, reports.values)
    sd = math.sqrt(found.sd**2 + noise**2 + (_SAME * spread) ** 2)
    level = min(found.value, reports.sign * reports.best)
    return float(ndtr((best - level) / sd)) if sd > 0.0 else float(level <= best)


def _last_record(reports: Reports, min_delta: float, share: float) -> float:
    """The step of the last value that beat the reference by min_delta and by a share of the reference's size."""
    reference, step = math.inf, float(reports.steps[0])
    for at, value in zip(reports.steps, reports.values, strict=True):
        margin = min_delta + (share * abs(reference) if math.isfinite(reference) else 0.0)
        if value + margin < reference:
            reference, step = float(value), float(at)
    return step


def _flat_by_loss(reports: Reports, *, alpha: float) -> float | None:
    if reports.values.min() <= 0.0:
        raise ConfigError(
            'rule="prechelt_gl" needs positive values to minimise; report 1 - accuracy, or use another rule.'
        )
    if plateau.generalization_loss(reports.values)[-1] <= alpha:
        return None
    return float(reports.steps[-1] - reports.steps[np.argmin(reports.values)])


def _rises(reports: Reports, patience: float) -> bool:
    """Whether the value rose over each third of the last `patience`, at the reports nearest to the strips' ends."""
    ends = reports.steps[-1] - patience * np.arange(_STRIPS + 1)[::-1] / _STRIPS
    at = np.abs(reports.steps[:, None] - ends).argmin(axis=0)
    return bool(np.all(np.diff(at) > 0)) and plateau.successive_rises(reports.values[at], strip=1) >= _STRIPS
