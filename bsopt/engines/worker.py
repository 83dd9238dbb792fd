"""A placed worker: the ordinary loop on the shared storage, on whatever host an engine put it."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna

from bsopt.config import LoadedConfig, validate_config
from bsopt.errors import BsoptError, ConfigError
from bsopt.storage import ownership
from bsopt.trial.events import Listener, TrialStart
from bsopt.trial.record import TrialRecord

__all__ = ["Job", "Outcome", "work"]

_log = logging.getLogger(__name__)
_SECONDS_BETWEEN_LOOKS = 2.0


@dataclass(frozen=True, slots=True)
class Job:
    """What a worker is given; plain values, since it travels to another host.

    Attributes:
        config: The study file as plain data.
        file: The study file, in whose folder imports are looked up first.
        working_folder: Where the command was given; relative paths start here.
        run: The leader's run, which may ask its workers to stop.
        name: The worker's own name, different for each that is placed.
        is_uploaded: Whether the folder's files were sent to the worker and lie in its working folder.
    """

    config: Mapping[str, Any]
    file: str
    working_folder: str
    run: str
    name: str
    is_uploaded: bool = False


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a worker ended.

    Attributes:
        ended: As in `RunSummary`, or "error".
        message: The same in a sentence.
        error: Name of the error's class; empty for none.
    """

    ended: str
    message: str
    error: str = ""


def work(job: Job, *, is_stopped: Callable[[], bool] = lambda: False) -> Outcome:
    """Run a study's trials here, one after another, until there are enough or the leader wants an end.

    Args:
        job: What to run.
        is_stopped: Whether this worker is to end before its first trial.

    Returns:
        How it ended, the user's mistakes included: what is raised doesn't travel well.
    """
    from bsopt.study.study import Study

    try:
        _enter(job)
        config = validate_config(job.config)
        study = Study.create(LoadedConfig(config, Path(job.file)))
        if is_stopped() or ownership.is_asked_to_stop(study.optuna, job.run):
            return Outcome("interrupted", "asked to stop before it began")
        with _listening_for_stop(study.optuna, job.run):
            summary = study.run(_Log(), worker=job.name)
    except KeyboardInterrupt:
        return Outcome("interrupted", "stopped at once")
    except BsoptError as error:
        return Outcome("error", f"{error} (on {socket.gethostname()})", type(error).__name__)
    return Outcome(summary.ended, summary.message)


def _enter(job: Job) -> None:
    """Go where the command was given, if that is here; imports of uploaded files are found in the working folder."""
    if job.is_uploaded:
        return
    folder = Path(job.file).parent
    if not folder.is_dir():
        raise ConfigError(
            f"the study's folder {folder} isn't there: put it on a disk that every host sees under the same path "
            "(with Ray, --upload-code sends it along)."
        )
    os.chdir(job.working_folder if Path(job.working_folder).is_dir() else folder)


@contextlib.contextmanager
def _listening_for_stop(study: optuna.Study, run: str) -> Iterator[None]:
    """Interrupt this process, as Ctrl-C does, when the leader asks for it through the storage."""
    over = threading.Event()

    def listen() -> None:
        while not over.wait(_SECONDS_BETWEEN_LOOKS):
            if ownership.is_asked_to_stop(study, run):
                os.kill(os.getpid(), signal.SIGINT)
                return

    listener = threading.Thread(target=listen, daemon=True)
    listener.start()
    try:
        yield
    finally:
        over.set()
        listener.join()


class _Log(Listener):
    """Tells the worker's own log what happens; the leader's terminal learns it from the storage."""

    def trial_started(self, start: TrialStart) -> None:
        _log.info("trial %d: batch size %d (%s), lr %g", start.number, start.batch_size, start.plan, start.lr)

    def trial_ended(self, record: TrialRecord) -> None:
        reason = record.stop_reason.value if record.stop_reason else record.outcome
        _log.info("trial %d: %s, %s %s", record.number, reason, record.value, record.message)

    def note(self, message: str) -> None:
        _log.warning(message)
