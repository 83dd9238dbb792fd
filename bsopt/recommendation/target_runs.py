"""The value that samples and steps are counted to, and the run of each batch size that reaches it first."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import cast

from bsopt.laws.lr_ridge import LrRidgeFit
from bsopt.laws.steps_to_target import MIN_SIZES, TargetRun
from bsopt.trial.record import StudyInfo, TrialRecord

__all__ = ["runs_to_target"]

REACHED_SHARE = 0.75
"""Without a target of the study's own, it is a value that at most this share of the tuned batch sizes reached."""


def runs_to_target(
    records: Sequence[TrialRecord], info: StudyInfo, ridge: LrRidgeFit
) -> tuple[float | None, tuple[TargetRun, ...]]:
    """Return the target and the quickest run of each half-octave of batch sizes.

    Only sizes with a run near their best learning rate have a say, where there are three of them.

    Args:
        records: The trials.
        info: Of the study, which may name a target.
        ridge: The best learning rate of each batch size.
    """
    sign = info.objective.metric_sign
    groups: dict[int, list[TrialRecord]] = {}
    for record in records:
        if record.is_placed and record.is_feasible and any(math.isfinite(tick.value) for tick in record.ticks):
            groups.setdefault(round(2.0 * math.log2(cast(int, record.batch_size))), []).append(record)
    tuned = {
        key: group
        for key, group in groups.items()
        if any(ridge.is_tuned(cast(int, r.batch_size), cast(float, r.lr)) for r in group)
    }
    groups = dict(sorted((tuned if len(tuned) >= MIN_SIZES else groups).items()))
    if not groups:
        return info.objective.target, ()
    if info.objective.target is not None:
        target = info.objective.target
        return target, tuple(_quickest(group, sign, target) for group in groups.values())
    return _separating_target(list(groups.values()), sign)


def _separating_target(groups: Sequence[Sequence[TrialRecord]], sign: float) -> tuple[float, tuple[TargetRun, ...]]:
    """Return the easiest target at which `MIN_SIZES` batch sizes are seen to cross, of those that at most
    `REACHED_SHARE` of the sizes reach, and the runs to it; without any such target the one at which most are seen.

    A target that the sizes are past at their first validation tells nothing of what they cost.
    """
    bests = sorted(min(sign * t.value for r in group for t in r.ticks if math.isfinite(t.value)) for group in groups)
    enough = min(len(bests), max(MIN_SIZES, math.ceil(REACHED_SHARE * len(bests))))
    candidates = [sign * best for best in reversed(bests[min(len(bests), MIN_SIZES) - 1 : enough])]  # the easiest first
    found = [(target, tuple(_quickest(group, sign, target) for group in groups)) for target in candidates]
    seen = [sum(math.isfinite(run.samples) and not run.is_upper_bound for run in runs) for _, runs in found]
    most = max(seen)
    return found[next(i for i, count in enumerate(seen) if count >= min(most, MIN_SIZES))]


def _quickest(group: Sequence[TrialRecord], sign: float, target: float) -> TargetRun:
    reached = [run for record in group if (run := _crossing(record, sign, target)) is not None]
    if reached:
        return min(reached, key=lambda run: (run.samples, run.batch_size))
    longest = max(group, key=lambda record: record.ticks[-1].samples)
    return TargetRun(float(cast(int, longest.batch_size)), math.nan, longest.ticks[-1].samples)


def _crossing(record: TrialRecord, sign: float, target: float) -> TargetRun | None:
    """Return when a trial reached the target; None where it never did."""
    at = next((i for i, tick in enumerate(record.ticks) if sign * tick.value <= sign * target), None)
    if at is None:
        return None
    samples = record.ticks[at].samples
    gap = samples - record.ticks[at - 1].samples if at else None
    return TargetRun(float(cast(int, record.batch_size)), samples, is_upper_bound=at == 0, resolution_samples=gap)
