"""What workers do on other hosts, told as it happens: a study's events, read from its storage."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import optuna
from optuna.trial import FrozenTrial, TrialState

from bsopt.errors import PlanError
from bsopt.storage.attributes import BATCH_SIZE, LR, is_ours, read_info, read_record
from bsopt.study.running_trial import marked, start_of
from bsopt.trial.events import Listener, TrialStart
from bsopt.trial.plan import Limits, Plan, nearest_realisable
from bsopt.trial.record import StudyInfo, Tick
from bsopt.trial.spec import trial_folder

__all__ = ["Follower"]

Callback = Callable[[optuna.Study, FrozenTrial], None]


@dataclass(slots=True)
class _Seen:
    started: bool = False
    ticks: int = 0
    ended: bool = False


class Follower:
    """Tells a listener what has happened in a study since the last look.

    A running trial's ticks are what Optuna keeps of them (samples and value), its plan what the study's limits
    make of its batch size; once it has ended, its record is exact.

    Args:
        study: The study.
        listener: Receives the events.
        done: Trials of the study that count, from earlier runs.
        total: Trials that it is to have.
        callbacks: Called with the study and each trial that ended.
    """

    def __init__(
        self,
        study: optuna.Study,
        listener: Listener,
        *,
        done: int,
        total: int,
        callbacks: Sequence[Callback] = (),
    ) -> None:
        self._study = study
        self._listener = listener
        self._done = done
        self._total = total
        self._callbacks = callbacks
        self._info: StudyInfo | None = None
        self._seen: dict[int, _Seen] = {}
        self.ended: list[int] = []
        for trial in study.get_trials(deepcopy=False):
            if trial.state.is_finished():
                self._seen[trial.number] = _Seen(ended=True)

    def look(self) -> None:
        """Tell what is new."""
        if self._info is None:
            if not is_ours(self._study):
                return  # the first worker hasn't built the task yet
            self._info = read_info(self._study)
            self._listener.study_started(self._info, done=self._done, total=self._total)
        for trial in self._study.get_trials(deepcopy=False):
            seen = self._seen.setdefault(trial.number, _Seen())
            if not seen.ended and trial.state != TrialState.WAITING:
                self._tell(trial, seen, self._info)

    def _tell(self, trial: FrozenTrial, seen: _Seen, info: StudyInfo) -> None:
        has_params = {BATCH_SIZE, LR} <= set(trial.params)
        if not has_params:  # it has just been claimed, or was handed back
            seen.ended = trial.state.is_finished()
            return
        if not seen.started:
            seen.started = True
            self._listener.trial_started(_start(trial, info))
        if not trial.state.is_finished():
            for tick in _ticks(trial, info)[seen.ticks :]:
                seen.ticks += 1
                self._listener.ticked(trial.number, tick)
            return
        record = read_record(self._study, trial)
        for tick in record.ticks[seen.ticks :]:
            self._listener.ticked(trial.number, tick)
        seen.ended = True
        self.ended.append(trial.number)
        self._listener.trial_ended(record)
        for callback in self._callbacks:
            callback(self._study, trial)


def _start(trial: FrozenTrial, info: StudyInfo) -> TrialStart:
    plan, lr = _plan(trial, info), float(trial.params[LR])
    folder = trial_folder(info.folder, trial.number)
    start = start_of(trial.number, trial.params, plan=plan, lr=lr, info=info, folder=folder)
    return marked(start, trial)


def _plan(trial: FrozenTrial, info: StudyInfo) -> Plan:
    batch_size = info.on_lattice(int(trial.params[BATCH_SIZE]))
    limits = Limits(
        num_devices=info.num_devices, num_nodes=info.num_nodes, max_micro_batch_size=info.max_micro_batch_size
    )
    try:
        return nearest_realisable(batch_size, limits)
    except PlanError:
        return Plan(batch_size)


def _ticks(trial: FrozenTrial, info: StudyInfo) -> list[Tick]:
    sign = info.objective.report_sign
    batch_size = _plan(trial, info).global_batch_size
    return [
        Tick(
            index=index,
            samples=float(samples),
            step=round(samples / batch_size),
            epoch=samples / info.num_train_samples if info.num_train_samples else math.nan,
            seconds=math.nan,
            value=sign * value,
        )
        for index, (samples, value) in enumerate(sorted(trial.intermediate_values.items()), start=1)
    ]
