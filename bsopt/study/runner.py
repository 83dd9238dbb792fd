"""Running a study: trials one after another, or several at a time, until it has its total number."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import optuna
from optuna.trial import FrozenTrial, TrialState

from bsopt.config import StudyConfig
from bsopt.errors import BsoptError, PlanError, StorageError, StudyError, TaskError
from bsopt.experiment.design import queue_designed
from bsopt.laws.lattice import nearest_in_ratio
from bsopt.search.pruner import PlateauPruner
from bsopt.storage import ownership, queue
from bsopt.storage.attributes import (
    BATCH_SIZE,
    CONFIRM_KEY,
    LR,
    REPLICATE_KEY,
    read_info,
    read_record,
    read_records,
    write_record,
)
from bsopt.storage.databases import redacted
from bsopt.study.samplers import suggest
from bsopt.study.signals import first_signal_calls
from bsopt.training.processes.crash import Crash
from bsopt.training.processes.supervision import Supervision
from bsopt.trial.events import Listener, RunSummary
from bsopt.trial.plan import Plan, nearest_realisable
from bsopt.trial.record import StopReason, Tick, TrialRecord
from bsopt.trial.spec import StopDecision, TrialSpec

if TYPE_CHECKING:
    from bsopt.study.study import Study

__all__ = ["StudyRun", "summary_of"]

_SAME_FAILURES = 3
_LOOK_SECONDS = 2.0


class StudyRun:
    """One call of `Study.run`.

    Args:
        study: The study.
        listener: Receives what happens.
        callbacks: Called with the study and each ended trial.
        worker: The name that a leader gave this run, if there is one. It looks after lost trials; without a leader
            the run stays until the trials of other hosts have ended.
    """

    def __init__(
        self,
        study: Study,
        listener: Listener,
        *,
        callbacks: Sequence[Callable[[optuna.Study, FrozenTrial], None]] = (),
        worker: str | None = None,
    ) -> None:
        self._study = study
        self._name = worker
        self._callbacks = list(callbacks)
        self._listener = listener
        self._stopping = threading.Event()
        self._ended = "finished"
        self._message = ""
        self._error: BaseException | None = None
        self._new = 0
        self._lock = threading.Lock()
        self._overtaken: set[int] = set()  # workers whose trial another host has given up
        self._looked = -float("inf")
        self._micro_limit = study.limits().max_micro_batch_size
        self._began = time.monotonic()

    def run(self) -> RunSummary:
        study, listener = self._study, self._listener
        total = study.config.budget.trials
        self._look_for_lost()
        done = queue.num_counted(study.optuna)
        if done >= total:
            self._queue_confirmations()
        designed = self._queue_design()
        total, done = total + designed, done + queue.num_designed(study.optuna)
        listener.study_started(study.info, done=done, total=total)
        others = self._name is None and ownership.running_elsewhere(study.optuna)
        if done >= total and not queue.num_waiting(study.optuna) and not others:
            self._ended = "nothing_to_do"
            self._message = f"the study is finished: it has its {total} trials. Raise budget.trials to go on."
        else:
            with first_signal_calls(self._interrupt):
                self._work(min(study.config.workers, max(1, total - done)))
                while self._goes_on() and (self._is_left_by_others() or self._queue_confirmations()):
                    self._work(study.config.workers)
        study.files.upload_kept(study.records)
        summary = self._summary(total)
        listener.study_ended(summary)
        if self._error is not None:
            raise self._error
        return summary

    def _queue_confirmations(self) -> int:
        """Queue the finalists' repeats once the search has its trials; return how many."""
        replicates = self._study.config.confirm_seeds
        if replicates == 0 or ownership.running_elsewhere(self._study.optuna):  # who the finalists are is still open
            return 0
        queued = queue.queue_confirmations(self._study.optuna, replicates=replicates)
        if queued:
            self._listener.note(f"the search is done; {queued} repeats of the finalists over fresh seeds follow")
        return queued

    def _queue_design(self) -> int:
        """Queue the designed runs that aren't there yet; return how many the design has."""
        queued = queue_designed(self._study.optuna, self._study.config)
        if queued.new:
            self._listener.note(f"{queued.new} of the experiment's {queued.total} designed runs are to be trained")
        return queued.total

    def _goes_on(self) -> bool:
        return not self._stopping.is_set() and self._ended == "finished"

    def _is_left_by_others(self) -> bool:
        """Wait for the trials of other hosts; return whether one was lost and there is work again."""
        told = False
        while self._name is None and self._goes_on():
            self._look_for_lost()
            if self._has_place():
                return True
            others = ownership.running_elsewhere(self._study.optuna)
            if not others:
                break
            if not told:
                numbers = ", ".join(str(trial.number) for trial in others)
                self._listener.note(f"waiting for trial {numbers}, which another process runs; Ctrl-C leaves it alone")
                told = True
            self._stopping.wait(_LOOK_SECONDS)
        return False

    def _look_for_lost(self) -> None:
        """Give up the trials whose process is gone and queue them again."""
        self._looked = time.monotonic()
        for number in ownership.give_up_lost(self._study.optuna):
            self._listener.note(f"trial {number} was lost, its process is gone; it is run again")
        queue.queue_retries(self._study.optuna)

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
        study = self._study
        try:
            while not self._stopping.is_set() and self._reserve():
                self._run_one(worker)
        except Exception as error:  # noqa: BLE001  (told by run() once every worker has ended)
            self._stop("failed", str(error), error=_as_storage_error(error, study.config.storage))

    def _run_one(self, worker: int) -> None:
        """Ask for a trial, run it and tell what came of it."""
        try:
            self._study.optuna.optimize(
                lambda trial: self._objective(trial, worker),
                n_trials=1,
                catch=(_TrialFailedError,),
                callbacks=self._callbacks,
            )
        except ValueError:  # Optuna can't tell a trial that has ended
            if worker not in self._overtaken:
                raise
            self._overtaken.discard(worker)

    def _reserve(self) -> bool:
        """Whether one more trial may be asked for."""
        budget = self._study.config.budget
        if budget.time is not None and time.monotonic() - self._began > budget.time.value:
            self._stop("time_up", f"the study's {budget.time} are over")
            return False
        with self._lock:
            if time.monotonic() - self._looked > ownership.SIGN_OF_LIFE_SECONDS:
                self._look_for_lost()
            if not self._has_place():
                return False
            self._reserved += 1
        return True

    def _has_place(self) -> bool:
        return queue.num_open(self._study.optuna, total=self._study.config.budget.trials) > self._reserved

    _reserved = 0

    def _objective(self, trial: optuna.Trial, worker: int) -> float:
        try:
            return self._run_trial(trial, worker)
        except optuna.exceptions.UpdateFinishedTrialError as error:
            self._overtaken.add(worker)
            message = f"trial {trial.number} was given up by another host, which heard nothing of it for too long"
            self._listener.note(message)
            raise _TrialFailedError(message) from error

    def _run_trial(self, trial: optuna.Trial, worker: int) -> float:
        study = self._study
        ownership.claim(trial, worker=self._name)
        with self._lock:
            self._reserved -= 1
        if reason := queue.excess(study.optuna, trial, total=study.config.budget.trials):
            ownership.hand_back(trial, reason)
            raise _TrialFailedError(reason)
        params = suggest(trial, study.config.search)
        record = self._train(trial, params, worker)
        study.files.keep(trial)
        write_record(trial, record)
        with self._lock:
            self._new += 1
        self._listener.trial_ended(record)
        study.files.drop(study.records)
        if record.stop_reason is not StopReason.INTERRUPTED:
            study.files.resume_file(queue.root_of(trial)).unlink(missing_ok=True)
        if record.stop_reason in (StopReason.FAILED, StopReason.INTERRUPTED):
            self._look_for_same_failures(record)
            raise _TrialFailedError(record.message)
        if record.stop_reason is StopReason.OUT_OF_MEMORY:
            trial.set_constraint("memory", 1.0)
        if record.outcome == "pruned" or record.value is None:
            raise optuna.TrialPruned(record.message)
        return self._value(record)

    def _value(self, record: TrialRecord) -> float:
        """Return what Optuna minimises or maximises."""
        goal = self._study.config.objective.cost
        assert record.value is not None
        if goal is None:
            return record.value
        tick = record.ticks[-1]
        if record.stop_reason is not StopReason.TARGET_REACHED:
            raise optuna.TrialPruned(f"{record.message}; it never reached the target")
        if goal == "energy":
            if record.energy_joules is None:
                raise TaskError("objective.cost: energy, but the energy can't be measured on this machine.")
            return record.energy_joules
        return {"seconds": tick.seconds, "samples": tick.samples, "steps": float(tick.step)}[goal]

    def _train(self, trial: optuna.Trial, params: dict[str, Any], worker: int) -> TrialRecord:
        study = self._study
        root, replicate = queue.root_of(trial), trial.user_attrs.get(REPLICATE_KEY)
        while True:
            limits = replace(study.limits(), max_micro_batch_size=self._micro_limit)
            try:
                plan = nearest_realisable(_on_lattice(int(params[BATCH_SIZE]), study.config), limits)
            except PlanError as error:
                trial.set_constraint("plan", 1.0)
                return _bare(trial, params, StopReason.OUT_OF_MEMORY, str(error))
            is_designed = queue.is_designed(trial)
            spec = study.spec(trial.number, params, plan, root=root, replicate=replicate, is_designed=is_designed)
            self._listener.trial_started(study._start(spec))
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
        study = self._study
        watcher = _Watcher(study, trial, self._listener)
        supervision = Supervision(
            on_tick=watcher.on_tick,
            is_cancelled=self._stopping.is_set,
            on_idle=watcher.on_idle,
            stall_seconds=study._stall_seconds,
        )
        try:
            record = study.launch(spec, supervision, devices=self._devices(worker, spec.plan))
        except Crash as crash:
            record = watcher.record(spec, crash.reason, crash.full_message)
            if crash.ends_study:
                self._stop("failed", crash.message, error=StudyError(crash.message))
        except StorageError:  # no fault of the trial
            raise
        except BsoptError as error:
            record = watcher.record(spec, StopReason.FAILED, str(error))
            if not _has_success(study.optuna):  # every other trial would fail the same way
                self._stop("failed", str(error), error=error)
        return record

    def _devices(self, worker: int, plan: Plan) -> list[int] | None:
        """Divide the GPUs among the workers."""
        available = self._study.description.num_available_devices
        chosen = self._study.config.trainer.get("devices", 1)
        if isinstance(chosen, list):
            return [int(device) for device in chosen]
        if not available or self._study.config.workers == 1:
            return None
        first = worker * plan.num_devices
        return [(first + i) % available for i in range(plan.num_devices)]

    def _look_for_same_failures(self, record: TrialRecord) -> None:
        if record.stop_reason is not StopReason.FAILED or _has_success(self._study.optuna):
            return
        failures = [
            r.message for r in self._study.records if r.outcome == "fail" and r.stop_reason is StopReason.FAILED
        ]
        messages = [*failures, record.message][-_SAME_FAILURES:]
        first_lines = {message.splitlines()[0] for message in messages}
        if len(messages) == _SAME_FAILURES and len(first_lines) == 1:
            self._stop("same_failure", f"the first {_SAME_FAILURES} trials failed the same way: {record.message}")

    def _stop(self, ended: str, message: str, *, error: BaseException | None = None) -> None:
        with self._lock:
            if not self._stopping.is_set():
                self._ended, self._message, self._error = ended, message, error
            self._stopping.set() if ended != "time_up" else None

    def _interrupt(self) -> None:
        """End the trials as interrupted."""
        self._ended, self._message = "interrupted", "interrupted; the same command continues the study"
        self._stopping.set()
        self._listener.note("stopping; press Ctrl-C again to stop at once")

    def _summary(self, total: int) -> RunSummary:
        seconds = time.monotonic() - self._began
        ended = (self._ended, self._message)
        return summary_of(self._study.optuna, *ended, num_new=self._new, num_asked=total, seconds=seconds)


def summary_of(
    study: optuna.Study, ended: str, message: str, *, num_new: int, num_asked: int, seconds: float
) -> RunSummary:
    """Return how a run ended, with the study's counts and best trial; an empty message becomes the counts."""
    records = read_records(study)
    counted = [r for r in records if r.outcome == "fail" and not (r.stop_reason and r.stop_reason.is_retried)]
    best = None
    with contextlib.suppress(ValueError):
        best = read_record(study, study.best_trial)
    complete = sum(r.outcome == "complete" for r in records)
    pruned = sum(r.outcome == "pruned" for r in records)
    return RunSummary(
        num_complete=complete,
        num_pruned=pruned,
        num_failed=len(counted),
        num_new=num_new,
        num_asked=num_asked,
        ended=ended,  # type: ignore[arg-type]
        message=message or f"{complete} trials complete, {pruned} pruned, {len(counted)} failed",
        best=best,
        seconds=seconds,
    )


class _Watcher:
    """The study's side of one running trial: reports ticks, decides, gives signs of life."""

    def __init__(self, study: Study, trial: optuna.Trial, listener: Listener) -> None:
        self._study = study
        self._trial = trial
        self._listener = listener
        self._ticks: list[Tick] = []
        self._last_sign = time.monotonic()
        objective = study.config.objective.value
        self._sign = objective.report_sign
        self._patience = study.designed_patience if queue.is_designed(trial) else None

    def on_tick(self, tick: Tick) -> StopDecision:
        self._ticks.append(tick)
        self._trial.report(self._sign * tick.value, round(tick.samples))
        self._listener.ticked(self._trial.number, tick)
        if not np.isfinite(tick.value):
            return StopDecision()  # the trial itself ends as diverged
        return self._decide(tick)

    def on_idle(self) -> None:
        if time.monotonic() - self._last_sign > ownership.SIGN_OF_LIFE_SECONDS:
            self._last_sign = time.monotonic()
            ownership.sign_of_life(self._trial)

    def record(self, spec: TrialSpec, reason: StopReason, message: str) -> TrialRecord:
        """Return the record of a trial that couldn't make its own."""
        objective = self._study.config.objective.value
        sign = objective.metric_sign
        finite = [tick for tick in self._ticks if np.isfinite(tick.value)]
        best = min(finite, key=lambda tick: sign * tick.value, default=None)
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

    def _decide(self, tick: Tick) -> StopDecision:
        study, info = self._study.optuna, self._study.config
        pruner = study.pruner
        last = tick.samples >= (read_info(study).budget_samples or float("inf"))
        if last or CONFIRM_KEY in self._trial.user_attrs:
            return StopDecision()  # it is over anyway, or repeats a finalist to its end
        if self._patience is not None:
            return self._until_patient(tick)
        if isinstance(pruner, PlateauPruner):
            frozen = study.get_trials(deepcopy=False)[self._trial.number]
            goal = info.objective.cost
            spent = {"seconds": tick.seconds, "samples": tick.samples, "steps": float(tick.step)}.get(goal or "")
            return pruner.decide(study, frozen, decay_remaining=tick.is_decaying, spent=spent)
        if self._trial.should_prune():
            name = type(pruner).__name__
            return StopDecision(StopReason.PRUNED, message=f"pruned by {name} at {tick.value:.5g}")
        return StopDecision()

    def _until_patient(self, tick: Tick) -> StopDecision:
        """A designed run is never pruned: it trains until its metric hasn't improved for the design's patience."""
        assert self._patience is not None
        sign = self._study.config.objective.value.metric_sign
        best = min((t for t in self._ticks if np.isfinite(t.value)), key=lambda t: sign * t.value)
        if tick.samples - best.samples < self._patience:
            return StopDecision()
        message = f"no better {self._study.config.objective.monitor} than {best.value:.5g} since epoch {best.epoch:.3g}"
        return StopDecision(StopReason.CONVERGED, message=message)


def _on_lattice(size: int, config: StudyConfig) -> int:
    """Return the lattice's batch size nearest in ratio to one that another sampler proposed."""
    space = config.search.batch_size
    if space.lattice == "any":
        return size
    return nearest_in_ratio(size, space.sizes())


class _TrialFailedError(Exception):
    """Tells Optuna that the trial failed; the record says why."""


def _has_success(study: optuna.Study) -> bool:
    return any(
        read_record(study, t).value is not None
        for t in study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED))
    )


def _bare(trial: optuna.Trial, params: Mapping[str, Any], reason: StopReason, message: str) -> TrialRecord:
    return TrialRecord(
        number=trial.number,
        outcome=reason.outcome,
        batch_size=int(params[BATCH_SIZE]),
        lr=float(params[LR]),
        params=dict(params),
        stop_reason=reason,
        message=message,
    )


def _as_storage_error(error: Exception, storage: str) -> BaseException:
    if type(error).__module__.startswith(("sqlalchemy", "sqlite3", "psycopg", "pymysql", "grpc")) or isinstance(
        error, optuna.exceptions.StorageInternalError
    ):
        text = (str(error.__cause__ or error).strip().splitlines() or [""])[0]
        return StorageError(
            f"the storage {redacted(storage)} failed: {text}. What was measured is kept; run the same command again."
        )
    return error
