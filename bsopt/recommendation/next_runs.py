"""The two or three trials that would settle what is open, and what they would take."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from statistics import median
from typing import cast

from bsopt.laws.value_surface import BEYOND
from bsopt.recommendation.evidence import Evidence
from bsopt.recommendation.result import NextRun, SizeState
from bsopt.trial.record import TrialRecord

__all__ = ["MOST_RUNS", "next_runs"]

MOST_RUNS = 3
SAME_OCTAVES = 0.5
"""A trial at a rate this near the best one of its batch size is repeated rather than a new rate tried."""


def next_runs(evidence: Evidence) -> tuple[NextRun, ...]:
    """Return the trials that would tell most of what can't be told yet; nothing where nothing is open.

    A repeat of the best trial where no setting was repeated, for the noise between seeds; a learning rate and a batch
    size beyond those that were tried where the best ones lie at their edge; then the batch sizes whose tie with the
    best is open, the likeliest ones first, each at its best learning rate.
    """
    best = evidence.best
    if best is None or best.outcome != "complete" or not evidence.is_fitted:
        return ()
    runs: list[NextRun] = []
    if not evidence.fits.noise_is_repeated:
        reason = "how much a seed matters, which no repeated setting has told yet"
        runs.append(_repeat(evidence, best, reason))
    told = evidence.fits.ridge.predict(evidence.best_size)
    if told is not None and told.at_edge and not evidence.fits.ridge.is_flat:
        beyond = _beyond_tried(evidence, evidence.best_size, "whether {rate} is better")
        runs += [beyond] if beyond is not None else []
    if (size := evidence.size_beyond) is not None:
        side = "above the largest" if size > evidence.best_size else "below the smallest"
        reason = f"whether a batch size {side} that was tried, {evidence.best_size}, is better"
        runs.append(_at_best_rate(evidence, size, reason))
    is_open = [found for found in evidence.findings if found.state in (SizeState.OPEN, SizeState.NOT_TESTED)]
    for found in sorted(is_open, key=lambda found: -found.chance):
        reason = f"whether {found.batch_size} is as good as {evidence.best_size}"
        beyond = None if found.is_tuned else _beyond_tried(evidence, found.batch_size, f"{reason} at {{rate}}")
        run = beyond or _at_best_rate(evidence, found.batch_size, reason)
        if runs and replace(run, reason=runs[0].reason) == runs[0]:  # one run tells both
            runs[0] = replace(run, reason=f"{runs[0].reason}, and {reason}")
        else:
            runs.append(run)
    return tuple(runs[:MOST_RUNS])


def _beyond_tried(evidence: Evidence, size: int, reason: str) -> NextRun | None:
    """Return a run an octave beyond the rates that were tried, on the side where a size's best one may lie.

    None where it doesn't lie at their edge, where trials without a result, as diverged ones, show what is beyond, or
    where nothing further is searched. In the reason stands {rate} for the words.
    """
    told = evidence.fits.ridge.predict(size)
    if told is None or not (told.at_edge or told.beyond):
        return None
    tried = [cast(float, record.lr) for record in evidence.records if record.has_result]
    lost = [record.lr for record in evidence.records if record.lr and not record.has_result]
    is_above = (told.beyond or told.lr.value) > math.sqrt(min(tried) * max(tried))
    end, octaves = (max(tried), BEYOND) if is_above else (min(tried), -BEYOND)
    lr = _searched(evidence, end * 2.0**octaves)
    is_further = math.log2(lr / end) / octaves >= SAME_OCTAVES
    if not is_further or any((other >= end) == is_above for other in lost):
        return None
    side = "above the highest" if is_above else "below the lowest"
    rate = f"a learning rate {side} that was tried, {end:.3g},"
    return _fresh(evidence, size, lr, reason.format(rate=rate).removesuffix(","))


def _at_best_rate(evidence: Evidence, size: int, reason: str) -> NextRun:
    """Return a run at a size's best learning rate: a repeat of the nearest trial, where one ran close to it."""
    predicted = evidence.fits.ridge.predict(size)
    complete = _complete(evidence, size)
    lr = _searched(evidence, predicted.lr.value if predicted is not None else cast(float, complete[0].lr))
    near = min(complete, key=lambda r: abs(math.log2(cast(float, r.lr) / lr)), default=None)
    if near is not None and abs(math.log2(cast(float, near.lr) / lr)) <= SAME_OCTAVES:
        return _repeat(evidence, near, reason)
    return _fresh(evidence, size, lr, reason)


def _searched(evidence: Evidence, lr: float) -> float:
    """Return the learning rate nearest in ratio to one that the study can try."""
    choices, ends = evidence.info.lr_choices, evidence.info.lr_range
    if choices:
        return min(choices, key=lambda choice: abs(math.log2(choice / lr)))
    return lr if ends is None else min(max(lr, ends[0]), ends[1])


def _complete(evidence: Evidence, size: int) -> list[TrialRecord]:
    return [
        record for record in evidence.by_size.get(size, ()) if record.outcome == "complete" and record.confirms is None
    ]


def _fresh(evidence: Evidence, size: int, lr: float, reason: str) -> NextRun:
    seconds, device_hours = _takes(evidence, _complete(evidence, size))
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
