"""Running a study: trials one after another, or several at a time, until it has its total number."""

from __future__ import annotations

import contextlib
import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias

import optuna
from optuna.trial import FrozenTrial, TrialState

from bsopt.config import StudyConfig
from bsopt.errors import BsoptError, MachineError, PlanError, StorageError, StudyError
from bsopt.storage import ownership, queue
from bsopt.storage.attributes import (
    BATCH_SIZE,
    LR,
    enqueued_params,
    read_info,
    read_record,
    read_records,
    write_record,
)
from bsopt.storage.parameter_names import OUR_NAMES
from bsopt.study.failures import as_failure, missing_folder
from bsopt.study.files import StudyFiles
from bsopt.study.run_queue import Ending, RunQueue, interrupted_by
from bsopt.study.running_trial import RunningTrial, ShieldedListener, marked, start_of
from bsopt.study.samplers import suggest
from bsopt.study.signals import first_signal_calls
from bsopt.study.stopping import Stopping, designed_patience, value_to_tell
from bsopt.study.task_runner import TaskRunner
from bsopt.training.processes.crash import Crash
from bsopt.training.processes.supervision import Supervision
from bsopt.trial.events import Listener, RunSummary
from bsopt.trial.plan import nearest_realisable
from bsopt.trial.record import StopReason, TrialRecord
from bsopt.trial.spec import TrialSpec

__all__ = ["Callback", "StudyRunner"]

Callback: TypeAlias = Callable[[optuna.Study, FrozenTrial], None]

_SAME_FAILURES, _SAME_LATER = 3, 8
"""Trials in a row that fail the same way and end the run: before any has succeeded, and after that, when most of them
would have to be at fault together: a device that died, code that was edited."""
_MOST_KILLS = 3
"""A trial whose process was killed so often in one run has failed."""
_LOOK_SECONDS = 2.0
_ASK_SECONDS = 0.05


class StudyRunner:
    """One run of a study: asks for trials, has each trained, tells what came of it, until there are enough.

    Args:
        study: The Optuna study, whose description is stored and whose sampler and pruner are set.
        task: Trains the trials.
        config: The study file.
        files: The trials' logs and weights.
        listener: Receives what happens.
        callbacks: Optuna callbacks, called with the study and each ended trial.
        worker: The name that a leader gave this run, if there is one. It looks after lost trials; without a leader
            the run stays until the trials of other hosts have ended.

    Raises:
        ConfigError: The experiment's patience is in epochs and the training set's length isn't known.
    """

    def __init__(
        self,
        study: optuna.Study,
        task: TaskRunner,
        *,
        config: StudyConfig,
        files: StudyFiles,
        listener: Listener,
        callbacks: Sequence[Callback] = (),
        worker: str | None = None,
    ) -> None:
        self._study = study
        self._task = task
        self._config = config
        self._files = files
        self._audience = listener
        self._listener = ShieldedListener(listener, self._fail)
        self._callbacks = list(callbacks)
        self._name = worker
        self._info = read_info(study)
        self._objective = config.objective.value
        self._patience = designed_patience(config, self._info)
        self._queue = RunQueue(study, config, self._listener)
        self._stopping = threading.Event()
        self._ending = Ending()
        self._lock = threading.Lock()
        self._new: list[int] = []
        self._warned: set[str] = set()  # what a trial of this run warned of: the same of a hundred is told once
        self._reserved = 0  # trials that workers are about to ask for
        self._overtaken: set[int] = set()  # workers whose trial another host has given up
        self._kills: Counter[int] = Counter()  # first try of a trial -> how often its process was killed
        self._output = config.folder.absolute() if config.folder.is_dir() else None
        self._micro_limit = task.limits().max_micro_batch_size

    def run(self) -> RunSummary:
        """Run trials until there are enough; return how it ended.

        Raises:
            BsoptError: The user's code or settings are wrong, or the storage failed; what was measured is kept.
        """
        study, listener = self._study, self._listener
        self._queue.look_for_lost()
        self._queue.queue_design()
        if not self._queue.num_open() and not self._queue.queue_continuation(self._files.has_state, at_end=True):
            self._queue_confirmations()
        done, open_ = self._queue.num_begun(), self._queue.num_open()
        total = done + open_
        listener.study_started(self._info, done=done, total=total)
        others = self._name is None and ownership.running_elsewhere(study)
        if not open_ and not others:
            self._ending = self._queue.nothing_to_do(total)
        else:
            with first_signal_calls(self._interrupt):
                self._work(min(self._config.workers, max(1, open_)))
                while self._goes_on() and (self._is_left_by_others() or self._queue_confirmations()):
                    self._work(self._config.workers)
        self._tidy()
        summary = self._queue.summary(self._ending, ended=self._new, num_asked=total)
        listener.study_ended(summary)
        if self._ending.error is not None:
            raise self._ending.error
        return summary

    def _queue_confirmations(self) -> int:
        """Queue the finalists' repeats, unless others still train: who the finalists are is open until then."""
        return 0 if ownership.running_elsewhere(self._study) else self._queue.queue_confirmations()

    def _goes_on(self) -> bool:
        return not self._stopping.is_set() and self._ending.ended == "finished"

    def _is_left_by_others(self) -> bool:
        """Wait for the trials of other hosts; return whether one was lost and there is work again."""
        told = False
        while self._name is None and self._goes_on():
            self._queue.look_for_lost()
            if self._has_place():
                return True
            others = ownership.running_elsewhere(self._study)
            if not others:
                break
            if not told:
                numbers = ", ".join(str(trial.number) for trial in others)
                self._listener.note(f"waiting for trial {numbers}, which another process runs; Ctrl-C leaves it alone")
                told = True
            self._stopping.wait(_LOOK_SECONDS)
        return False

    def _work(self, workers: int) -> None:
        if workers == 1:
            self._loop(0)
            return
        threads = [threading.Thread(target=self._loop, args=(n,), daemon=True) for n in range(workers)]
        for thread in threads:
            thread.start()
        for thread in threads:
            while thread.is_alive():
                thread.join(0.2)  # leaves the main thread free for signals

    def _loop(self, worker: int) -> None:
        """Run trials one after another until there are enough."""
        try:
            while not self._stopping.is_set() and self._reserve():
                self._run_one(worker)
        except Exception as error:  # noqa: BLE001  (raised by run() once every worker has ended)
            self._fail(error)

    def _run_one(self, worker: int) -> None:
        """Ask for a trial, run it and tell what came of it."""
        try:
            with ownership.claims(worker=self._name) as claim:
                self._study.optimize(
                    lambda trial: self._objective_of(trial, worker, claim),
                    n_trials=1,
                    catch=(_TrialFailedError,),
                    callbacks=self._callbacks,
                )
            if self._kills:
                with self._lock:  # two workers would each queue both trials that a killed server has cost
                    queue.queue_retries(self._study, total=self._config.num_searched)
        except ValueError:  # Optuna can't tell a trial that has ended
            if worker not in self._overtaken:
                raise
            self._overtaken.discard(worker)

    def _reserve(self) -> bool:
        """Whether one more trial may be asked for; while another worker asks, that can't be told and is waited for."""
        while not self._stopping.is_set():
            if self._queue.is_time_up:
                self._end(self._queue.time_up())
                return False
            with self._lock:
                self._queue.look_for_lost_if_due()
                self._queue.queue_continuation(self._files.has_state)
                if self._has_place():
                    self._reserved += 1
                    return True
                if not self._reserved and not self._queue.queue_continuation(self._files.has_state, at_end=True):
                    return False
            self._stopping.wait(_ASK_SECONDS)
        return False

    def _has_place(self) -> bool:
        return self._queue.num_open() > self._reserved

    def _objective_of(self, trial: optuna.Trial, worker: int, claim: str) -> float:
        with self._lock:
            self._reserved -= 1
        try:
            ownership.claim(trial, by=claim, worker=self._name)
            return self._run_trial(trial, worker)
        except optuna.exceptions.UpdateFinishedTrialError as error:
            self._overtaken.add(worker)
            message = f"trial {trial.number} was given up by another host, which heard nothing of it for too long"
            self._listener.note(message)
            raise _TrialFailedError(message) from error

    def _run_trial(self, trial: optuna.Trial, worker: int) -> float:
        if reason := queue.excess(self._study, trial, total=self._config.num_searched):
            ownership.hand_back(trial, reason)
            raise _TrialFailedError(reason)
        try:
            params = suggest(trial, self._config.search)
        except ValueError as error:
            queued = enqueued_params(self._study.get_trials(deepcopy=False)[trial.number])
            if queued is None:
                raise
            record = _not_of_search(trial, queued, error)
        else:
            record = replace(self._train(trial, params, worker), design_variant=queue.variant_of(trial))
        self._keep(trial, record)
        if record.outcome == "fail":
            self._look_for_same_failures(record)
            raise _TrialFailedError(record.message)
        if record.stop_reason is StopReason.OUT_OF_MEMORY:
            trial.set_constraint("memory", 1.0)
        return value_to_tell(record, self._objective)

    def _keep(self, trial: optuna.Trial, record: TrialRecord) -> None:
        """Store all that a trial left, before it is told; a file that can't be kept ends the run and costs no trial."""
        write_record(trial, record)
        with self._lock:
            self._new.append(record.number)
            warnings = [text for text in record.warnings if text not in self._warned]
            self._warned.update(warnings)
        self._listener.trial_ended(record)
        for warning in warnings:
            self._listener.note(f"trial {record.number}: {warning}")
        reason = record.stop_reason
        is_over = reason is not None and not reason.is_retried and reason is not StopReason.PAUSED
        try:
            self._files.keep(trial)
            self._files.drop(read_records(self._study))
            if is_over:
                self._files.drop_state(queue.root_of(trial))
        except (OSError, StorageError) as error:
            self._fail(error)

    def _train(self, trial: optuna.Trial, params: dict[str, Any], worker: int) -> TrialRecord:
        """Train a trial, with smaller and smaller micro-batches where memory runs out."""
        while True:
            limits = replace(self._task.limits(), max_micro_batch_size=self._micro_limit)
            try:
                plan = nearest_realisable(self._info.on_lattice(int(params[BATCH_SIZE])), limits)
            except PlanError as error:
                trial.set_constraint("plan", 1.0)
                return _without_plan(trial, params, str(error))
            spec = self._task.spec(
                trial.number,
                params,
                plan,
                root=queue.root_of(trial),
                replicate=queue.replicate_of(trial),
                is_designed=queue.is_designed(trial),
                variant=queue.variant_of(trial),
            )
            start = start_of(
                trial.number, spec.params, plan=plan, lr=spec.lr, info=self._info, folder=Path(spec.folder)
            )
            self._listener.trial_started(marked(start, trial))
            record = self._attempt(trial, spec, worker)
            smaller = plan.micro_batch_size // 2
            if record.stop_reason is not StopReason.OUT_OF_MEMORY or smaller < 1 or not limits.allow_accumulation:
                return record
            with self._lock:
                self._micro_limit = min(self._micro_limit or smaller, smaller)
            self._listener.note(
                f"trial {trial.number} ran out of memory at {plan.micro_batch_size} samples a pass; "
                f"from now on at most {self._micro_limit} are taken at a time"
            )

    def _attempt(self, trial: optuna.Trial, spec: TrialSpec, worker: int) -> TrialRecord:
        stopping = Stopping(
            self._study,
            trial,
            objective=self._objective,
            budget_samples=self._info.budget_samples,
            patience=self._patience,
        )
        running = RunningTrial(trial, stopping, objective=self._objective, listener=self._listener)
        supervision = Supervision(running.on_tick, self._stopping.is_set, on_idle=running.on_idle)
        try:
            self._files.take_over(trial)
            return self._task.launch(spec, supervision, worker=worker)
        except Crash as crash:
            if crash.ends_study:
                self._end(Ending("failed", crash.message, StudyError(crash.message)))
            if (missing := missing_folder(self._output)) is not None:  # that was no failure of the trial
                self._keep_as_lost(trial, running.record(spec, StopReason.LOST, _lost(missing)))
                raise missing from crash
            return running.record(spec, self._reason_of(trial, crash), crash.full_message)
        except BsoptError as error:
            if isinstance(error, (StorageError, MachineError)):
                self._keep_as_lost(trial, running.record(spec, StopReason.LOST, _lost(error)))
                raise
            if not self._has_success():  # every other trial would fail the same way
                self._end(Ending("failed", str(error), error))
            return running.record(spec, StopReason.FAILED, str(error))
        except BaseException as error:  # the storage, the disk, a second Ctrl-C: the trial isn't to blame
            self._keep_as_lost(trial, running.record(spec, StopReason.LOST, _lost(error)))
            raise

    def _keep_as_lost(self, trial: optuna.Trial, record: TrialRecord) -> None:
        """Store the curve so far of a trial that is run again, where the storage still takes it."""
        with contextlib.suppress(Exception):
            write_record(trial, record)

    def _reason_of(self, trial: optuna.Trial, crash: Crash) -> StopReason:
        """Return why a trial crashed; one that is killed again and again has failed."""
        if crash.reason is not StopReason.LOST:
            return crash.reason
        root = queue.root_of(trial)
        with self._lock:
            self._kills[root] += 1
            is_hopeless = self._kills[root] >= _MOST_KILLS
        if not is_hopeless:
            self._listener.note(f"trial {trial.number}: {crash.message}; it is run again")
        return StopReason.FAILED if is_hopeless else StopReason.LOST

    def _look_for_same_failures(self, record: TrialRecord) -> None:
        if record.stop_reason is not StopReason.FAILED:
            return
        which, most = ("last", _SAME_LATER) if self._has_success() else ("first", _SAME_FAILURES)
        ended = [r for r in read_records(self._study) if r.stop_reason is StopReason.FAILED or r.outcome != "fail"]
        last = [*(r for r in ended if r.number != record.number and r.stop_reason is not None), record][-most:]
        first_lines = {(r.stop_reason, r.message.partition("\n")[0]) for r in last}
        if len(last) == most and len(first_lines) == 1:
            self._end(Ending("same_failure", f"the {which} {most} trials failed the same way: {record.message}"))

    def _has_success(self) -> bool:
        ended = self._study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED))
        return any(read_record(self._study, trial, names=OUR_NAMES).value is not None for trial in ended)

    def _tidy(self) -> None:
        """Upload what is kept, and delete what only a study that goes on needs."""
        try:
            self._files.upload_kept(read_records(self._study))
            if self._ending.ended == "finished" and not ownership.running_elsewhere(self._study):
                self._files.drop_states()
        except (OSError, StorageError) as error:
            self._fail(error)

    def _fail(self, error: Exception) -> None:
        """End the run with an error that no trial is to blame for."""
        failure = as_failure(error, self._config.storage)
        self._end(Ending("failed", str(failure), failure))

    def _end(self, ending: Ending) -> None:
        """End the run; the first reason counts. Trials under way go on where only the time is up."""
        with self._lock:
            if not self._stopping.is_set():
                self._ending = ending
            if ending.ended != "time_up":
                self._stopping.set()

    def _interrupt(self, number: int) -> None:
        """End the trials as interrupted; without the lock, which the interrupted main thread may hold."""
        self._ending = interrupted_by(number)
        self._stopping.set()
        with contextlib.suppress(Exception):  # nobody may be there to read it
            self._audience.note("stopping; press Ctrl-C again to stop at once")


class _TrialFailedError(Exception):
    """Tells Optuna that the trial failed; the record says why."""


def _without_plan(trial: optuna.Trial, params: Mapping[str, Any], message: str) -> TrialRecord:
    """Return the record of a trial whose batch size memory doesn't allow in any way."""
    return TrialRecord(
        number=trial.number,
        outcome=StopReason.OUT_OF_MEMORY.outcome,
        batch_size=int(params[BATCH_SIZE]),
        lr=float(params[LR]),
        params=dict(params),
        stop_reason=StopReason.OUT_OF_MEMORY,
        message=message,
    )


def _not_of_search(trial: optuna.Trial, queued: Mapping[str, Any], error: ValueError) -> TrialRecord:
    """Return the record of a trial that somebody queued with what can't be values of the study's parameters."""
    message = f"it was queued with {dict(queued)}, which isn't what the study searches: {error}"
    return TrialRecord(trial.number, "fail", stop_reason=StopReason.FAILED, message=message)


def _lost(error: BaseException) -> str:
    """Return why a trial is run again, in a sentence."""
    why = "stopped at once" if isinstance(error, KeyboardInterrupt) else f"{type(error).__name__}: {error}"
    return f"{why}; it is run again"
