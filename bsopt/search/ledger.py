"""Which trials count, which are to be run again, and whose are still alive; the same on every storage.

A running trial carries its owner (host, process, the process's start) and the time of its last sign of life.
One whose owner is gone, or silent for too long on another host, is lost: it is failed, doesn't count, and is
queued again with the same parameters, once.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from bsopt.errors import StorageError
from bsopt.records import StopReason, TrialRecord
from bsopt.search.storage import ALIVE_KEY, CONFIRM_KEY, OWNER_KEY, REPLICATE_KEY, RETRY_KEY, read_record, write_record

__all__ = [
    "GRACE_SECONDS",
    "NUM_FINALISTS",
    "SIGN_OF_LIFE_SECONDS",
    "claim",
    "counts",
    "finalists",
    "give_up_lost",
    "num_counted",
    "num_waiting",
    "queue_confirmations",
    "queue_retries",
    "root_of",
    "sign_of_life",
]

SIGN_OF_LIFE_SECONDS = 30.0
GRACE_SECONDS = 240.0
NUM_FINALISTS = 3


def claim(trial: optuna.Trial) -> None:
    """Write down that this process runs the trial."""
    trial.set_user_attr(OWNER_KEY, _me())
    sign_of_life(trial)


def sign_of_life(trial: optuna.Trial) -> None:
    """Write down that the trial is being run now."""
    trial.set_user_attr(ALIVE_KEY, time.time())


def root_of(trial: FrozenTrial | optuna.Trial) -> int:
    """Return the number of the trial that this one is a retry of, its own number if it is none."""
    return int(trial.user_attrs.get(RETRY_KEY, trial.number))


def counts(study: optuna.Study, trial: FrozenTrial) -> bool:
    """Whether a trial counts towards the study's total: all but waiting, repeating, interrupted and lost ones."""
    return CONFIRM_KEY not in trial.user_attrs and _is_settled(study, trial)


def _is_settled(study: optuna.Study, trial: FrozenTrial) -> bool:
    """Whether a trial runs or ended on its own."""
    if trial.state == TrialState.WAITING:
        return False
    if trial.state != TrialState.FAIL:
        return True
    reason = read_record(study, trial).stop_reason
    return reason is None or not reason.is_retried


def num_counted(study: optuna.Study, trials: Sequence[FrozenTrial] | None = None) -> int:
    """Return the number of trials that count, running ones included."""
    return sum(counts(study, trial) for trial in (study.get_trials(deepcopy=False) if trials is None else trials))


def give_up_lost(study: optuna.Study, *, now: float | None = None) -> list[int]:
    """Fail the running trials whose owner is gone and return their numbers."""
    at = time.time() if now is None else now
    lost = []
    for frozen in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        if _is_alive(frozen, at):
            continue
        trial = optuna.Trial(study, frozen._trial_id)
        record = replace(
            read_record(study, frozen),
            outcome="fail",
            stop_reason=StopReason.LOST,
            message="its process was gone without a word; it is run again",
        )
        if _fail(study, trial, record):
            lost.append(frozen.number)
    return lost


def queue_retries(study: optuna.Study) -> int:
    """Queue interrupted and lost trials again that aren't yet; return how many."""
    trials = study.get_trials(deepcopy=False)
    settled = {root_of(t) for t in trials if t.state == TrialState.WAITING or _is_settled(study, t)}
    queued = 0
    for trial in trials:
        root = root_of(trial)
        if trial.state != TrialState.FAIL or root in settled or not trial.params:
            continue
        settled.add(root)
        kept = {key: trial.user_attrs[key] for key in (CONFIRM_KEY, REPLICATE_KEY) if key in trial.user_attrs}
        study.enqueue_trial(dict(trial.params), user_attrs={**kept, RETRY_KEY: root})
        queued += 1
    return queued


def queue_confirmations(study: optuna.Study, *, replicates: int, num_finalists: int = NUM_FINALISTS) -> int:
    """Queue repeats of the best trials over fresh seeds, those that aren't there yet; return how many."""
    trials = study.get_trials(deepcopy=False)
    done = {
        (int(t.user_attrs[CONFIRM_KEY]), int(t.user_attrs[REPLICATE_KEY]))
        for t in trials
        if CONFIRM_KEY in t.user_attrs and (t.state == TrialState.WAITING or _is_settled(study, t))
    }
    missing = [(t, i) for t in finalists(study, num_finalists) for i in range(replicates) if (t.number, i) not in done]
    for trial, replicate in missing:
        study.enqueue_trial(dict(trial.params), user_attrs={CONFIRM_KEY: trial.number, REPLICATE_KEY: replicate})
    return len(missing)


def finalists(study: optuna.Study, count: int = NUM_FINALISTS) -> list[FrozenTrial]:
    """Return the best complete trials of the search, best first, repeats left out."""
    sign = -1.0 if study.direction == StudyDirection.MAXIMIZE else 1.0
    complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    own = [t for t in complete if CONFIRM_KEY not in t.user_attrs and t.values]
    return sorted(own, key=lambda t: sign * t.values[0])[:count]


def num_waiting(study: optuna.Study) -> int:
    """Return the number of queued repeats."""
    waiting = study.get_trials(deepcopy=False, states=(TrialState.WAITING,))
    return sum(CONFIRM_KEY in t.user_attrs for t in waiting)


def _fail(study: optuna.Study, trial: optuna.Trial, record: TrialRecord) -> bool:
    try:
        write_record(trial, record)
        study.tell(trial, state=TrialState.FAIL)
    except (ValueError, RuntimeError, optuna.exceptions.UpdateFinishedTrialError):  # somebody else was faster
        return False
    return True


def _me() -> dict[str, Any]:
    return {"host": socket.gethostname(), "boot": _boot(), "pid": os.getpid(), "born": _born(os.getpid())}


def _is_alive(trial: FrozenTrial, now: float) -> bool:
    owner: Mapping[str, Any] | None = trial.user_attrs.get(OWNER_KEY)
    started = trial.datetime_start.timestamp() if trial.datetime_start else 0.0
    last = float(trial.user_attrs.get(ALIVE_KEY, started))
    if owner is None:  # killed before it could say whose it is, or not one of ours
        return now - last < GRACE_SECONDS
    if owner.get("host") == socket.gethostname():
        if owner.get("boot") != _boot():
            return False
        born = _born(int(owner["pid"]))
        return born is not None and born == owner.get("born")
    return now - last < GRACE_SECONDS


def _boot() -> str | None:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return None


def _born(pid: int) -> str | None:
    """Return what tells this process from a later one of the same number; None if there is no such process."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except FileNotFoundError:
        if Path("/proc").exists() and Path("/proc/self/stat").exists():
            return None
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return None
        except PermissionError:
            pass
        return "unknown"
    except OSError as error:
        raise StorageError(f"can't look at process {pid}: {error}") from error
    return None if fields[0] in ("Z", "X") else fields[19]
