"""The two or three trials that would settle what is open, and what they would take."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from statistics import median
from typing import cast

from bsopt.recommendation.evidence import Evidence
from bsopt.recommendation.result import NextRun, SizeState
from bsopt.trial.record import TrialRecord

__all__ = ["MOST_RUNS", "next_runs"]

MOST_RUNS = 3
SAME_OCTAVES = 0.5
"""A trial at a rate this near the best one of its batch size is repeated rather than a new rate tried."""


def next_runs(evidence: Evidence) -> tuple[NextRun, ...]:
    """Return the trials that would tell most of what can't be told yet; nothing where nothing is open.

    A repeat of the best trial where no setting was repeated, for the noise between seeds; then the batch sizes whose
    tie with the best is open, the likeliest ones first, each at its best learning rate.
    """
    best = evidence.best
    if best is None or best.outcome != "complete" or not evidence.is_fitted:
        return ()
    runs: list[NextRun] = []
    if not evidence.fits.noise_is_repeated:
        reason = "how much a seed matters, which no repeated setting has told yet"
        runs.append(_repeat(evidence, best, reason))
    is_open = [found for found in evidence.findings if found.state is SizeState.OPEN and found.num_complete]
    for found in sorted(is_open, key=lambda found: -found.chance):
        reason = f"whether {found.batch_size} is as good as {evidence.best_size}"
        run = _at_best_rate(evidence, found.batch_size, reason)
        if runs and replace(run, reason=runs[0].reason) == runs[0]:  # one run tells both
            runs[0] = replace(run, reason=f"{runs[0].reason}, and {reason}")
        else:
            runs.append(run)
    return tuple(runs[:MOST_RUNS])


def _at_best_rate(evidence: Evidence, size: int, reason: str) -> NextRun:
    """Return a run at a size's best learning rate: a repeat of the nearest trial, where one ran close to it."""
    predicted = evidence.fits.ridge.predict(size)
    complete = [r for r in evidence.by_size[size] if r.outcome == "complete" and r.confirms is None]
    lr = predicted.lr.value if predicted is not None else cast(float, complete[0].lr)
    if evidence.info.lr_choices:
        lr = min(evidence.info.lr_choices, key=lambda choice: abs(math.log2(choice / lr)))
    near = min(complete, key=lambda r: abs(math.log2(cast(float, r.lr) / lr)), default=None)
    if near is not None and abs(math.log2(cast(float, near.lr) / lr)) <= SAME_OCTAVES:
        return _repeat(evidence, near, reason)
    if evidence.info.lr_range is not None:
        lr = min(max(lr, evidence.info.lr_range[0]), evidence.info.lr_range[1])
    seconds, device_hours = _takes(evidence, complete)
    best = cast(TrialRecord, evidence.best)
    return NextRun(size, lr, reason, best.further, None, seconds, device_hours)


def _repeat(evidence: Evidence, record: TrialRecord, reason: str) -> NextRun:
    size = cast(int, record.batch_size)
    seconds, device_hours = _takes(evidence, [record])
    number = record.number if record.confirms is None else record.confirms
    return NextRun(size, cast(float, record.lr), reason, record.further, number, seconds, device_hours)


def _takes(evidence: Evidence, like: Sequence[TrialRecord]) -> tuple[float | None, float | None]:
    """Return the seconds and device-hours of a whole trial, from those alike, else from all complete ones."""
    complete = [record for record in evidence.records if record.outcome == "complete"]
    for records in (like, complete):
        timed = [record for record in records if record.seconds]
        if timed:
            seconds = median(cast(float, record.seconds) for record in timed)
            world = max(record.plan.world_size if record.plan else 1 for record in timed)
            return seconds, seconds * world / 3600.0
    return None, None
