"""The study's side of a trial that trains elsewhere: its ticks, its signs of life, and a record if it makes none.

Whoever listens may fail; the trials go on.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial

from bsopt.storage import ownership, queue
from bsopt.storage.attributes import continued_number
from bsopt.study.stopping import Stopping
from bsopt.training.tick_schedule import Schedule
from bsopt.trial.curve import best_tick
from bsopt.trial.events import Listener, RunSummary, TrialStart
from bsopt.trial.objective import Objective
from bsopt.trial.plan import Plan
from bsopt.trial.record import StopReason, StudyInfo, Tick, TrialRecord
from bsopt.trial.spec import StopDecision, TrialSpec
from bsopt.units import Amount

__all__ = ["RunningTrial", "ShieldedListener", "marked", "start_of"]


class RunningTrial:
    """Reports a running trial's ticks, passes on whether it stops, and tells other hosts that it is alive.

    Args:
        trial: Optuna's trial, claimed by this process.
        stopping: Decides whether it stops.
        objective: What counts.
        listener: Receives each tick.
    """

    def __init__(self, trial: optuna.Trial, stopping: Stopping, *, objective: Objective, listener: Listener) -> None:
        self._trial = trial
        self._stopping = stopping
        self._objective = objective
        self._listener = listener
        self._ticks: list[Tick] = []
        self._last_sign = time.monotonic()

    def on_tick(self, tick: Tick) -> StopDecision:
        """Report a tick to Optuna and the listener, and return whether the trial stops."""
        self._ticks.append(tick)
        self._trial.report(self._objective.report_sign * tick.value, round(tick.samples))
        self._listener.ticked(self._trial.number, tick)
        return self._stopping.decide(self._ticks)

    def on_idle(self) -> None:
        """Give a sign of life when the last one is some time ago."""
        if time.monotonic() - self._last_sign > ownership.SIGN_OF_LIFE_SECONDS:
            self._last_sign = time.monotonic()
            ownership.sign_of_life(self._trial)

    def record(self, spec: TrialSpec, reason: StopReason, message: str) -> TrialRecord:
        """Return the record of a trial that couldn't make its own, with the ticks that arrived."""
        best = best_tick(self._ticks, self._objective)
        return TrialRecord(
            number=spec.number,
            outcome=reason.outcome,
            batch_size=spec.batch_size,
            lr=spec.lr,
            params=spec.params,
            stop_reason=reason,
            message=message,
            value=best.value if best else None,
            best_tick=best.index if best else None,
            ticks=tuple(self._ticks),
            plan=spec.plan,
            seed=spec.seeds.data,
        )


class ShieldedListener(Listener):
    """Passes events on to a listener whose errors must cost no trial.

    Args:
        listener: Receives the events.
        on_error: Receives what it raises.
    """

    def __init__(self, listener: Listener, on_error: Callable[[Exception], object]) -> None:
        self._listener = listener
        self._on_error = on_error

    def study_started(self, info: StudyInfo, *, done: int, total: int) -> None:
        self._pass_on(lambda to: to.study_started(info, done=done, total=total))

    def trial_started(self, start: TrialStart) -> None:
        self._pass_on(lambda to: to.trial_started(start))

    def ticked(self, number: int, tick: Tick) -> None:
        self._pass_on(lambda to: to.ticked(number, tick))

    def trial_ended(self, record: TrialRecord) -> None:
        self._pass_on(lambda to: to.trial_ended(record))

    def note(self, message: str) -> None:
        self._pass_on(lambda to: to.note(message))

    def study_ended(self, summary: RunSummary) -> None:
        self._pass_on(lambda to: to.study_ended(summary))

    def _pass_on(self, event: Callable[[Listener], object]) -> None:
        try:
            event(self._listener)
        except Exception as error:  # noqa: BLE001  (it is the listener's)
            self._on_error(error)


def marked(start: TrialStart, trial: optuna.Trial | FrozenTrial) -> TrialStart:
    """Return a start with what the trial's attributes say: the variant, and the paused trial that it goes on from."""
    return replace(start, variant=queue.variant_of(trial), continues=continued_number(trial))


def start_of(
    number: int, params: Mapping[str, Any], *, plan: Plan, lr: float, info: StudyInfo, folder: Path
) -> TrialStart:
    """Return what a listener is told of a trial that is about to train.

    Args:
        number: Optuna's trial number.
        params: Every parameter of the trial.
        plan: How its batch size is realised.
        lr: Its learning rate.
        info: The study's description, which tells the number of ticks.
        folder: The trial's own, with its log.
    """
    num_ticks = None
    if info.budget_samples and info.tick_samples:
        every, end = (Amount(samples, "samples") for samples in (info.tick_samples, info.budget_samples))
        num_ticks = Schedule.of(every, end, num_train_samples=None, is_geometric=info.has_early_ticks).num_ticks
    return TrialStart(
        number=number,
        batch_size=plan.global_batch_size,
        lr=lr,
        params=params,
        plan=plan,
        num_ticks=num_ticks,
        log=str(folder / "log.txt"),
    )
