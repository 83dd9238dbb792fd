"""Whether a learning-rate schedule still has to decay, and whether it ends where training ends.

Until it has decayed, a plateau says nothing; and batch sizes whose schedules end elsewhere can't be compared.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal

__all__ = ["Misplanned", "is_decaying", "misplanned"]

_ENDLESS = {"StepLR", "ExponentialLR", "ConstantLR", "ReduceLROnPlateau", "CyclicLR", "CosineAnnealingWarmRestarts"}
_WARM_UPS = {"LinearLR"}
_LENGTHS = (
    *("total_steps", "T_max", "total_iters", "max_iters", "num_training_steps", "max_steps", "max_epochs"),
    *("total_epochs", "first_cycle_steps"),
)
"""Under which names schedulers keep how long they are, in their own steps."""

_SLACK = 0.05
_GROWTH, _LOOKS = 1.04, 107  # up to 64 times the training


def is_decaying(trainer: Any) -> bool:
    """Return whether any of a Trainer's schedulers will still lower the learning rate by its schedule.

    `MultiStepLR` until its last milestone, `ConstantLR` and `LinearLR` until their `total_iters`, schedulers
    made of others while any of them will, those of a `SequentialLR` whose turn is over left out; every other schedule
    until the trial's end. `ReduceLROnPlateau` acts on plateaus and is no schedule.
    """
    return any(_decays(config.scheduler) for config in trainer.lr_scheduler_configs)


def _decays(scheduler: Any) -> bool:
    name = type(scheduler).__name__
    if name == "ReduceLROnPlateau":
        return False
    inner: Iterable[Any] = getattr(scheduler, "_schedulers", ())
    if name == "SequentialLR":  # a warm-up is left one step before its own end
        inner = scheduler._schedulers[bisect_right(scheduler._milestones, scheduler.last_epoch) :]
    if inner:
        return any(_decays(part) for part in inner)
    done = getattr(scheduler, "last_epoch", 0)
    if name == "MultiStepLR":
        return bool(done < max(scheduler.milestones, default=0))
    if name in ("ConstantLR", "LinearLR"):
        return bool(done < scheduler.total_iters)
    return True


@dataclass(frozen=True, slots=True)
class _Planned:
    """How many of its own steps a schedule was planned for, and whether a shorter one than the training is a fault."""

    steps: int
    ends: bool


@dataclass(frozen=True, slots=True)
class Misplanned:
    """A schedule that doesn't end where training ends; its text says it in words.

    Attributes:
        scheduler: Its class.
        planned: What it is planned for, in its unit.
        has: What the training has.
        unit: What it counts.
    """

    scheduler: str
    planned: int
    has: int
    unit: Literal["steps", "epochs"]

    def __str__(self) -> str:
        unit = "optimizer steps" if self.unit == "steps" else "epochs"
        return f"the schedule ({self.scheduler}) is planned for {self.planned:,} {unit}, but training has {self.has:,}"


def misplanned(trainer: Any, *, num_steps: float | None, num_epochs: float | None) -> list[Misplanned]:
    """Return which of a Trainer's schedules don't end where training ends; empty where all do.

    Read from attributes by their usual names (`total_steps`, `T_max`, `total_iters`, `milestones` …), of those made of
    others too; of a `LambdaLR` from where its function falls to nothing. Schedules that have no end (`StepLR`,
    `ExponentialLR`, cycles, plateaus) are left out, and so is a rate that the module sets itself.

    Args:
        trainer: At train start.
        num_steps: Optimizer updates of the whole training; None where they aren't known.
        num_epochs: Its epochs; None where they aren't known.
    """
    found = []
    for config in trainer.lr_scheduler_configs:
        length = num_steps if config.interval == "step" else num_epochs
        if length is None or not math.isfinite(length) or length < 1:
            continue
        has = max(1, math.floor(length / config.frequency + 1e-9))
        planned = _planned(config.scheduler, has)
        if planned is None:
            continue
        slack = max(1.0, _SLACK * has)
        if planned.steps > has + slack or (planned.ends and planned.steps < has - slack):
            unit: Literal["steps", "epochs"] = "steps" if config.interval == "step" else "epochs"
            found.append(Misplanned(type(config.scheduler).__name__, planned.steps, has, unit))
    return found


def _planned(scheduler: Any, has: int) -> _Planned | None:
    """Return what a schedule was planned for; None where it has no end, or none that can be told."""
    name = type(scheduler).__name__
    if name in _ENDLESS:
        return None
    if name == "MultiStepLR":
        return _Planned(max(scheduler.milestones, default=0), ends=False)
    if name == "LambdaLR":
        ends = [end for function in scheduler.lr_lambdas if (end := _end_of(function, has)) is not None]
        return _Planned(max(ends), ends=True) if ends else None
    if name == "SequentialLR":
        last = _planned(scheduler._schedulers[-1], max(1, has - scheduler._milestones[-1]))
        start = scheduler._milestones[-1]
        return _Planned(start + last.steps, last.ends) if last is not None else _Planned(start, ends=False)
    if name == "ChainedScheduler":
        parts = [part for inner in scheduler._schedulers if (part := _planned(inner, has)) is not None]
        return max(parts, key=lambda part: part.steps, default=None)
    for attribute in _LENGTHS:
        steps = getattr(scheduler, attribute, None)
        if isinstance(steps, (int, float)) and not isinstance(steps, bool) and steps > 0:
            return _Planned(int(steps), ends=name not in _WARM_UPS)
    return None


def _end_of(function: Callable[[int], float], has: int) -> int | None:
    """Return the step at which a factor has fallen from its peak to nothing; None where it never does, or in cycles."""
    try:
        within = [(step, float(function(step))) for step in sorted({round(has * i / 200) for i in range(201)})]
        top_at, top = max(within, key=lambda point: point[1])
        small = 0.01 * top
        is_low = [factor <= small for step, factor in within if step > top_at]
        num_ends = sum(now and not before for before, now in zip([False, *is_low], is_low, strict=False))
        if num_ends > 1:
            return None
        if num_ends == 1:
            return min((point for point in within if point[0] > top_at), key=lambda point: point[1])[0]
        beyond = (round(has * _GROWTH**i) for i in range(1, _LOOKS))
        first = next((step for step in beyond if float(function(step)) <= small), None)
        if first is None:
            return None
        near = sorted({round(first * (1 + i / 1000)) for i in range(-40, 101)})  # the end is near its first low step
        return min(((step, float(function(step))) for step in near), key=lambda point: point[1])[0]
    except Exception:  # noqa: BLE001  (the user's function may not be made for steps beyond its end)
        return None
