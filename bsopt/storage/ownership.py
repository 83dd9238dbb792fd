"""Whose a running trial is and whether its owner is still alive; the same on every storage."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from bsopt.storage.attributes import ALIVE_KEY, OWNER_KEY, STOP_KEY, read_record, write_record
from bsopt.storage.optuna_internals import trial_of
from bsopt.storage.parameter_names import OUR_NAMES
from bsopt.trial.record import StopReason, TrialRecord

__all__ = [
    "GRACE_SECONDS",
    "SIGN_OF_LIFE_SECONDS",
    "ask_to_stop",
    "claim",
    "claims",
    "give_up_lost",
    "give_up_of",
    "hand_back",
    "is_asked_to_stop",
    "marks_of_next",
    "owner_of",
    "running_elsewhere",
    "sign_of_life",
    "this_process",
]

SIGN_OF_LIFE_SECONDS = 30.0
"""Between two signs of life of a running trial."""

GRACE_SECONDS = 240.0
"""A trial of another host is lost after so long a silence."""

_UNKNOWN = "unknown"
_CLAIMS: set[str] = set()
"""Those that hold in this process: what it runs is the process's to know, whichever study asks."""


_ASKING = threading.local()
"""The owner of the next trial that a thread begins."""


@contextlib.contextmanager
def claims(*, worker: str | None = None) -> Iterator[str]:
    """Yield a claim, to be put on one trial, which holds until the block ends.

    The next trial that this thread begins carries it from its beginning, where the storage is one of `open_storage`:
    a process that is killed right then leaves no trial that is nobody's, which would be lost after a long silence only.

    A trial that is still running by then, for the storage failed before it could be told, is lost like one whose
    process is gone.

    Args:
        worker: The name that a leader gave this worker.
    """
    name = uuid.uuid4().hex
    _CLAIMS.add(name)
    _ASKING.owner = _owner(name, worker)
    try:
        yield name
    finally:
        _ASKING.owner = None
        _CLAIMS.discard(name)


def marks_of_next() -> dict[str, Any]:
    """Return, once, the attributes of the trial that this thread begins now; empty outside of `claims`."""
    owner, _ASKING.owner = getattr(_ASKING, "owner", None), None
    return {} if owner is None else {OWNER_KEY: owner, ALIVE_KEY: time.time()}


def claim(trial: optuna.Trial, *, by: str, worker: str | None = None) -> None:
    """Write down that this process runs the trial, if it doesn't say so, and that it does now.

    Args:
        trial: The trial.
        by: A claim that holds, of `claims`.
        worker: The name that a leader gave this worker.
    """
    owner = _owner(by, worker)
    if trial.user_attrs.get(OWNER_KEY) != owner:
        trial.set_user_attr(OWNER_KEY, owner)
    sign_of_life(trial)


def this_process() -> dict[str, Any]:
    """Return what tells this process from every other one that shares the storage, as plain data."""
    return {**_here(), "pid": os.getpid(), "born": _born(os.getpid())}


def owner_of(trial: FrozenTrial) -> Mapping[str, Any] | None:
    """Return the process that runs or ran a trial, as `claim` wrote it down; None before it did."""
    return trial.user_attrs.get(OWNER_KEY)


def hand_back(trial: optuna.Trial, message: str) -> None:
    """Write down that a claimed trial wasn't trained; it doesn't count and isn't run again."""
    write_record(
        trial,
        TrialRecord(trial.number, "fail", stop_reason=StopReason.INTERRUPTED, message=f"not trained: {message}"),
    )


def running_elsewhere(study: optuna.Study) -> list[FrozenTrial]:
    """Return the running trials that aren't this process's."""
    me = this_process()
    running = study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
    return [t for t in running if not _is_at(owner_of(t), me)]


def ask_to_stop(study: optuna.Study, run: str) -> None:
    """Ask the workers of a leader's run to interrupt their trials and end."""
    study.set_user_attr(STOP_KEY, run)


def is_asked_to_stop(study: optuna.Study, run: str) -> bool:
    """Whether the leader has asked the workers of its run to end."""
    return bool(study.user_attrs.get(STOP_KEY) == run)


def sign_of_life(trial: optuna.Trial) -> None:
    """Write down that the trial is being run now."""
    trial.set_user_attr(ALIVE_KEY, time.time())


def give_up_lost(study: optuna.Study, *, now: float | None = None) -> list[int]:
    """Fail the running trials whose owner is gone, or no longer runs them; return their numbers."""
    at = time.time() if now is None else now
    running = study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
    return [t.number for t in running if not _is_alive(t, at) and _give_up(study, t)]


def give_up_of(study: optuna.Study, workers: Sequence[str]) -> list[int]:
    """Fail the running trials of workers that their leader knows to be gone; return their numbers."""
    running = study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
    return [t.number for t in running if (owner_of(t) or {}).get("worker") in workers and _give_up(study, t)]


def _owner(claim: str, worker: str | None) -> dict[str, Any]:
    return {**this_process(), "worker": worker, "claim": claim}


def _give_up(study: optuna.Study, frozen: FrozenTrial) -> bool:
    record = replace(
        read_record(study, frozen, names=OUR_NAMES),
        outcome="fail",
        stop_reason=StopReason.LOST,
        message="its process was gone without a word; it is run again",
    )
    return _fail(study, trial_of(study, frozen), record)


def _fail(study: optuna.Study, trial: optuna.Trial, record: TrialRecord) -> bool:
    try:
        write_record(trial, record)
        study.tell(trial, state=TrialState.FAIL)
    except (ValueError, RuntimeError, optuna.exceptions.UpdateFinishedTrialError):  # somebody else was faster
        return False
    return True


def _is_alive(trial: FrozenTrial, now: float) -> bool:
    owner = owner_of(trial)
    if owner is not None and _is_at(owner, this_process()):
        return owner.get("claim") in _CLAIMS
    if owner is not None and _is_at(owner, _here()):
        born = _born(int(owner["pid"]))
        if born != _UNKNOWN or owner.get("born") == _UNKNOWN:
            return born is not None and born == owner.get("born")
    # On another host, or before a reboot, or another user's whose processes are hidden, or not one of ours, or killed
    # before it could say whose it is.
    started = trial.datetime_start.timestamp() if trial.datetime_start else 0.0
    return now - float(trial.user_attrs.get(ALIVE_KEY, started)) < GRACE_SECONDS


def _is_at(owner: Mapping[str, Any] | None, place: Mapping[str, Any]) -> bool:
    return owner is not None and all(owner.get(key) == value for key, value in place.items())


def _here() -> dict[str, Any]:
    """Where a process number means the same process: the host since its last start, and the container.

    `BSOPT_HOST` names the host where its own name doesn't tell it from others.
    """
    return {"host": os.environ.get("BSOPT_HOST") or socket.gethostname(), "boot": _boot(), "space": _space()}


def _space() -> str | None:
    try:
        return os.readlink("/proc/self/ns/pid")
    except OSError:
        return None


def _boot() -> str | None:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return None


def _born(pid: int) -> str | None:
    """Return what tells this process from a later one of the same number; None if there is no such process.

    `_UNKNOWN` where the system doesn't tell: without /proc, or with one that hides what other users run (hidepid).
    """
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:  # also one that ends while it is looked at
        return _UNKNOWN if _is_there(pid) else None
    return None if fields[0] in ("Z", "X") else fields[19]


def _is_there(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True
