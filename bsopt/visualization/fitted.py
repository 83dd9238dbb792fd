"""The laws fitted to a study's records, once for all its figures."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import cast

from bsopt.laws.communication import CommunicationFit, PlacementPoint, fit_communication
from bsopt.laws.lr_ridge import LrRidgeFit, RidgePoint, fit_lr_ridge
from bsopt.laws.steps_to_target import StepsToTargetFit, TargetRun, fit_steps_to_target
from bsopt.laws.throughput import MemoryFit, StepTimeFit, fit_memory, fit_step_time
from bsopt.records import StudyInfo, TrialRecord

__all__ = ["Fitted", "fit_records"]


@dataclass(frozen=True, slots=True)
class Fitted:
    """Every law that figures draw; each says in its status and message what it is worth.

    Attributes:
        ridge: The best learning rate at each batch size.
        steps_to_target: Samples to the target, and the critical batch size.
        target_runs: What that was fitted to: the quickest run of each batch size.
        step_time: Seconds of a step of one device.
        memory: Peak bytes of a device.
        communication: What several devices add.
    """

    ridge: LrRidgeFit
    steps_to_target: StepsToTargetFit
    target_runs: tuple[TargetRun, ...]
    step_time: StepTimeFit
    memory: MemoryFit
    communication: CommunicationFit


def fit_records(records: Sequence[TrialRecord], info: StudyInfo) -> Fitted:
    """Fit every law to the records."""
    target, runs = _target_runs(records, info)
    step_time = fit_step_time(_step_seconds(records))
    return Fitted(
        # Over the range that was tried, not searched: where no trial ran, nothing holds the fit down.
        ridge=fit_lr_ridge(_ridge_points(records), direction=info.direction, optimizer=info.optimizer),
        steps_to_target=fit_steps_to_target(runs, target=target, resolution_samples=info.tick_samples or 0.0),
        target_runs=runs,
        step_time=step_time,
        memory=fit_memory(_peak_bytes(records)),
        communication=fit_communication(_placements(records), step_time=step_time),
    )


def _ridge_points(records: Sequence[TrialRecord]) -> list[RidgePoint]:
    """Return the trials that tell about the learning rate; a pruned one with what it had reached."""
    return [
        RidgePoint(record.batch_size, record.lr, math.nan if _diverged(record) else cast(float, record.value))
        for record in records
        if record.batch_size
        and record.lr
        and (_diverged(record) or (record.outcome in ("complete", "pruned") and record.value is not None))
    ]


def _diverged(record: TrialRecord) -> bool:
    return record.stop_reason is not None and record.stop_reason.value == "diverged"


def _target_runs(records: Sequence[TrialRecord], info: StudyInfo) -> tuple[float | None, tuple[TargetRun, ...]]:
    """Return the target and the quickest run of each batch size.

    Without a target of the study's own it is one that every batch size with a completed trial reached.
    """
    sign = -1.0 if info.direction == "maximize" else 1.0
    ended = [r for r in records if r.batch_size and r.ticks and r.outcome in ("complete", "pruned")]
    target = info.target
    if target is None:
        bests = [
            min(sign * t.value for r in group for t in r.ticks if math.isfinite(t.value))
            for group in _by_size([r for r in ended if r.outcome == "complete"]).values()
        ]
        target = sign * max(bests) if bests else None
    if target is None:
        return None, ()
    runs = []
    for size, group in _by_size(ended).items():
        reached = [_reached(record, sign, target) for record in group]
        watched = max(record.ticks[-1].samples for record in group)
        quickest = min((samples for samples in reached if samples is not None), default=math.nan)
        runs.append(TargetRun(size, quickest, watched))
    return target, tuple(runs)


def _by_size(records: Sequence[TrialRecord]) -> dict[int, list[TrialRecord]]:
    groups: dict[int, list[TrialRecord]] = {}
    for record in sorted(records, key=lambda r: cast(int, r.batch_size)):
        if any(math.isfinite(tick.value) for tick in record.ticks):
            groups.setdefault(cast(int, record.batch_size), []).append(record)
    return groups


def _reached(record: TrialRecord, sign: float, target: float) -> float | None:
    return next((tick.samples for tick in record.ticks if sign * tick.value <= sign * target), None)


def _step_seconds(records: Sequence[TrialRecord]) -> list[tuple[float, float]]:
    """Return (micro-batch, seconds) on one device: the median over the trials, whose number tells nothing more."""
    groups: dict[int, list[float]] = {}
    for record in records:
        if record.plan is not None and record.plan.world_size == 1 and record.seconds_per_step:
            seconds = record.seconds_per_step / record.plan.accumulate_grad_batches
            groups.setdefault(record.plan.micro_batch_size, []).append(seconds)
    return [(size, median(group)) for size, group in groups.items()]


def _peak_bytes(records: Sequence[TrialRecord]) -> list[tuple[float, float]]:
    groups: dict[int, list[float]] = {}
    for record in records:
        size = record.plan.micro_batch_size if record.plan is not None else record.batch_size
        if size and record.peak_memory_bytes:
            groups.setdefault(size, []).append(record.peak_memory_bytes)
    return [(size, median(group)) for size, group in groups.items()]


def _placements(records: Sequence[TrialRecord]) -> list[PlacementPoint]:
    groups: dict[tuple[int, int, int], list[float]] = {}
    for record in records:
        plan = record.plan
        if plan is not None and plan.accumulate_grad_batches == 1 and record.seconds_per_step:
            key = (plan.micro_batch_size, plan.num_devices, plan.num_nodes)
            groups.setdefault(key, []).append(record.seconds_per_step)
    return [PlacementPoint(*key, median(group)) for key, group in groups.items()]
