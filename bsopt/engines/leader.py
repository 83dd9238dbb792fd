"""The leader of a study on many hosts: creates it once, places workers, follows them, replaces the lost ones."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import optuna
from optuna.trial import FrozenTrial, TrialState

from bsopt import errors
from bsopt.config import LoadedConfig, StudyConfig
from bsopt.engines.follower import Follower
from bsopt.engines.worker import Job, Outcome
from bsopt.errors import StorageError, StudyError
from bsopt.storage import ownership, queue
from bsopt.storage.attributes import read_info
from bsopt.storage.databases import redacted, study_url
from bsopt.study.compatibility import find_or_make
from bsopt.study.run_queue import Ending, RunQueue, interrupted_by
from bsopt.study.signals import first_signal_calls
from bsopt.trial.events import Listener, RunSummary
from bsopt.trial.record import StudyInfo

__all__ = ["Engine", "Leader", "Lost", "Place"]

_POLL_SECONDS = 0.5
_MOST_LOSSES = 3
"""So many workers may be lost in a row for each that is wanted, without a trial that ended in between."""


class Lost(Exception):  # noqa: N818  (an event, not a mistake of the caller)
    """A placed worker is gone without an outcome; the message says why, as far as the engine knows."""


class Place(Protocol):
    """One worker that an engine has placed."""

    def outcome(self) -> Outcome | None:
        """Return how it ended; None while it waits or runs.

        Raises:
            Lost: It is gone.
        """

    def has_begun(self) -> bool:
        """Whether it has left the engine's queue."""

    def end(self) -> None:
        """End it at once, or take it out of the queue."""


class Engine(Protocol):
    """Something that runs a worker somewhere."""

    @property
    def spans_hosts(self) -> bool:
        """Whether workers may be on other hosts than this one."""

    @property
    def uploads_code(self) -> bool:
        """Whether the study's folder is sent to the workers."""

    @property
    def outlives_leader(self) -> bool:
        """Whether workers go on when the leader's terminal is closed."""

    def advice(self, workers: int) -> str:
        """Return what the user should know before so many workers are placed; empty for nothing."""

    def place(self, job: Job) -> Place:
        """Start a worker, or put it into the queue."""

    def close(self) -> None:
        """Let go of the cluster."""


class Leader:
    """A study whose workers an engine places; used like a `Study` that is only run.

    Attributes:
        optuna: The Optuna study.
        config: What its file says; `workers` are to be placed.
    """

    def __init__(self, study: optuna.Study, config: StudyConfig, file: Path, engine: Engine) -> None:
        self.optuna = study
        self.config = config
        self.file = file
        self.engine = engine

    @classmethod
    def create(cls, loaded: LoadedConfig, engine: Engine) -> Leader:
        """Open the study that a file describes, making it where it doesn't exist yet; the workers build the task.

        Raises:
            StorageError: The workers couldn't share the storage.
            StudyError: The study exists with other settings.
        """
        config = loaded.config
        _check_shareable(config.storage, spans_hosts=engine.spans_hosts)
        return cls(find_or_make(config), config, loaded.path, engine)

    @property
    def info(self) -> StudyInfo:
        """What the study searches, as stored."""
        return read_info(self.optuna)

    def run(
        self, listener: Listener | None = None, *, callbacks: Sequence[Callable[[optuna.Study, FrozenTrial], None]] = ()
    ) -> RunSummary:
        """Have trials run until the study has its total number.

        A first Ctrl-C (or SIGTERM) has the workers end their trials as interrupted; a second ends them at once.

        Args:
            listener: Receives what happens.
            callbacks: Optuna callbacks, called here with the study and each trial that ended.

        Raises:
            BsoptError: A worker met a mistake of the user's, or workers die before they finish a trial.
        """
        try:
            return _Run(self, listener or Listener(), callbacks).run()
        finally:  # also where the storage or the cluster is what failed
            self.engine.close()


class _Run:
    """One call of `Leader.run`."""

    def __init__(
        self, leader: Leader, listener: Listener, callbacks: Sequence[Callable[[optuna.Study, FrozenTrial], None]]
    ) -> None:
        self._study = leader.optuna
        self._config = leader.config
        self._file = leader.file
        self._engine = leader.engine
        self._listener = listener
        self._callbacks = callbacks
        self._queue = RunQueue(leader.optuna, leader.config, listener)
        self._id = uuid.uuid4().hex[:8]
        self._placed = 0
        self._active: dict[str, Place] = {}
        self._losses = 0
        self._ended_at_loss = 0
        self._ending = Ending()
        self._stop = threading.Event()
        self._is_told = False
        self._is_left = False

    def run(self) -> RunSummary:
        listener, study = self._listener, self._study
        self._queue.queue_design()
        self._queue.look_for_lost()
        done = self._queue.num_begun()
        total = done + self._queue.num_open()
        follower = Follower(study, listener, done=done, total=total, callbacks=self._callbacks)
        if not self._queue.num_open() and not self._running() and not self._queue.queue_confirmations():
            self._ending = self._queue.nothing_to_do(total)
        else:
            if advice := self._engine.advice(self._config.workers):
                listener.note(advice)
            with first_signal_calls(self._interrupt):
                try:
                    self._lead(follower)
                finally:
                    self._end_all()
        follower.look()
        summary = self._queue.summary(self._ending, ended=follower.ended, num_asked=total)
        listener.study_ended(summary)
        if self._ending.error is not None:
            raise self._ending.error
        return summary

    def _lead(self, follower: Follower) -> None:
        while True:
            looked = time.monotonic()
            self._collect(len(follower.ended))
            follower.look()
            if self._is_left:
                return
            if self._stop.is_set():
                self._tell_to_stop()
                if not self._active:
                    return
            else:
                self._queue.look_for_lost_if_due()
                self._fill()
                if not self._active and self._is_over():
                    return
            # A storage that answers slowly isn't asked all the time.
            time.sleep(max(_POLL_SECONDS, 2 * (time.monotonic() - looked)))

    def _collect(self, num_ended: int) -> None:
        """See which workers have ended, and how."""
        for name, place in list(self._active.items()):
            try:
                outcome = place.outcome()
            except Lost as lost:
                del self._active[name]
                self._replace_lost(name, str(lost), num_ended)
                continue
            if outcome is None:
                continue
            del self._active[name]
            queue.queue_retries(self._study, total=self._config.num_searched)
            if outcome.ended == "error":
                kind = getattr(errors, outcome.error, StudyError)
                self._end(Ending("failed", outcome.message, kind(outcome.message)))
            elif outcome.ended in ("same_failure", "time_up"):
                self._end(Ending(outcome.ended, outcome.message))
            elif outcome.ended == "interrupted" and not self._stop.is_set():
                self._listener.note(f"worker {name} was interrupted; another takes its place")

    def _replace_lost(self, name: str, why: str, num_ended: int) -> None:
        numbers = ownership.give_up_of(self._study, [name])
        queue.queue_retries(self._study, total=self._config.num_searched)
        again = f"; trial {', '.join(map(str, numbers))} is run again" if numbers else ""
        self._listener.note(f"worker {name} is gone: {why}{again}")
        self._losses = 1 if num_ended > self._ended_at_loss else self._losses + 1
        self._ended_at_loss = num_ended
        if self._losses >= _MOST_LOSSES * self._config.workers:
            message = f"{self._losses} workers were lost before any of them finished a trial; the last: {why}"
            self._end(Ending("failed", message, StudyError(message)))

    def _fill(self) -> None:
        """Place workers while there is work for them."""
        if self._queue.is_time_up:
            return
        if not self._queue.num_open():
            self._drop_waiting()
            return
        names = set(self._active)
        busy = sum((ownership.owner_of(trial) or {}).get("worker") in names for trial in self._running())
        idle = len(self._active) - busy
        for _ in range(min(self._config.workers - len(self._active), self._queue.num_open() - idle)):
            name = f"{self._id}-{self._placed}"
            self._placed += 1
            config = {**self._config.as_dict(), "workers": 1}
            place = self._engine.place(
                Job(config, str(self._file), os.getcwd(), self._id, name, self._engine.uploads_code)
            )
            self._active[name] = place

    def _is_over(self) -> bool:
        if self._queue.is_time_up:
            if self._ending.ended == "finished" and self._queue.num_open():
                self._ending = self._queue.time_up()
            return True
        return not self._running() and not self._queue.num_open() and not self._queue.queue_confirmations()

    def _running(self) -> list[FrozenTrial]:
        return self._study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))

    def _end(self, ending: Ending) -> None:
        """End the run; the first reason counts."""
        if not self._stop.is_set():
            self._ending = ending
            self._stop.set()

    def _tell_to_stop(self) -> None:
        if self._is_told:
            return
        self._is_told = True
        ownership.ask_to_stop(self._study, self._id)
        self._drop_waiting()

    def _drop_waiting(self) -> None:
        """Take the workers out of the engine's queue that there is no work for."""
        for name, place in list(self._active.items()):
            if not place.has_begun():
                place.end()
                del self._active[name]

    def _end_all(self) -> None:
        """Make sure that no worker is left, unless they are to go on without this process."""
        if not self._is_left:
            for place in self._active.values():
                place.end()
            ownership.give_up_of(self._study, list(self._active))
        self._active.clear()

    def _interrupt(self, number: int) -> None:
        self._is_left = number == getattr(signal, "SIGHUP", None) and self._engine.outlives_leader
        self._end(interrupted_by(number))
        if self._is_left:
            return
        with contextlib.suppress(Exception):  # nobody may be there to read it
            self._listener.note("stopping the workers; press Ctrl-C again to stop at once")


def _check_shareable(storage: str, *, spans_hosts: bool) -> None:
    """Refuse a storage that the workers couldn't all write to.

    Raises:
        StorageError: It ends with this process, or is a file whose locks don't work between hosts.
    """
    address = study_url(storage)
    elsewhere = (
        "postgresql+psycopg://user:${PASSWORD}@host/database, mysql+pymysql://…, grpc://host:port in front of one of "
        "them, or journal:///path/on/a/shared/disk.log"
    )
    if address == "memory://" or address in ("sqlite://", "sqlite:///:memory:"):
        raise StorageError(
            f"the storage {redacted(storage)} ends with this process, so workers can't share it. Use {elsewhere}."
        )
    if address.startswith("sqlite") and spans_hosts:
        raise StorageError(
            f"the storage {redacted(storage)} is a SQLite file, whose locks don't hold between hosts, and trials would "
            f"be lost. Use {elsewhere}."
        )
