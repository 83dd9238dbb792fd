"""Which trials count, which are to be run again, and whose are still alive; the same on every storage.

A running trial carries its owner (host, process, the process's start) and the time of its last sign of life.
One whose owner is gone, or silent for too long on another host, is lost: it is failed, doesn't count, and is
queued again with the same parameters, once.

Hosts agree without a lock: a trial's number is given by the storage, so every host sees the same order. A claimed
trial that an earlier one makes superfluous (the last place is taken, or the same retry was queued twice) is handed
back before it trains.
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
from bsopt.search.storage import (
    ALIVE_KEY,
    BATCH_SIZE,
    CONFIRM_KEY,
    DESIGN_KEY,
    LR,
    OWNER_KEY,
    REPLICATE_KEY,
    RETRY_KEY,
    STOP_KEY,
    read_record,
    write_record,
)

__all__ = [
    "GRACE_SECONDS",
    "NUM_FINALISTS",
    "SIGN_OF_LIFE_SECONDS",
    "ask_to_stop",
    "claim",
    "counts",
    "excess",
    "finalists",
    "give_up_lost",
    "give_up_of",
    "hand_back",
    "is_asked_to_stop",
    "is_designed",
    "num_counted",
    "num_designed",
    "num_open",
    "num_waiting",
    "owner_of",
    "queue_confirmations",
    "queue_design",
    "queue_retries",
    "root_of",
    "running_elsewhere",
    "sign_of_life",
    "this_process",
]

SIGN_OF_LIFE_SECONDS = 30.0
GRACE_SECONDS = 240.0
NUM_FINALISTS = 3


def claim(trial: optuna.Trial, *, worker: str | None = None) -> None:
    """Write down that this process runs the trial, and the name that a leader gave this worker."""
    trial.set_user_attr(OWNER_KEY, {**this_process(), "worker": worker})
    sign_of_life(trial)


def this_process() -> dict[str, Any]:
    """Return what tells this process from every other one that shares the storage, as plain data."""
    return {**_here(), "pid": os.getpid(), "born": _born(os.getpid())}


def owner_of(trial: FrozenTrial) -> Mapping[str, Any] | None:
    """Return the process that runs or ran a trial, as `this_process` told it; None before it did."""
    return trial.user_attrs.get(OWNER_KEY)


def excess(study: optuna.Study, trial: optuna.Trial, *, total: int) -> str:
    """Return why a claimed trial must not be trained; empty when it may.

    Two hosts may both see the study's last place free, or both queue a lost trial again. The lower number is right.

    Args:
        study: The study.
        trial: A trial that this process has claimed.
        total: Trials that the search may have.
    """
    trials = study.get_trials(deepcopy=False)
    frozen, earlier = trials[trial.number], [t for t in trials[: trial.number] if _has_place(study, t)]
    if _identity(frozen) in {_identity(t) for t in earlier}:
        return "another host runs the same trial"
    if not _is_extra(frozen) and sum(not _is_extra(t) for t in earlier) >= total:
        return f"the study has its {total} trials"
    return ""


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
    return [t for t in running if {**(owner_of(t) or {}), "worker": None} != {**me, "worker": None}]


def ask_to_stop(study: optuna.Study, run: str) -> None:
    """Ask the workers of a leader's run to interrupt their trials and end."""
    study.set_user_attr(STOP_KEY, run)


def is_asked_to_stop(study: optuna.Study, run: str) -> bool:
    """Whether the leader has asked the workers of its run to end."""
    return bool(study.user_attrs.get(STOP_KEY) == run)


def sign_of_life(trial: optuna.Trial) -> None:
    """Write down that the trial is being run now."""
    trial.set_user_attr(ALIVE_KEY, time.time())


def root_of(trial: FrozenTrial | optuna.Trial) -> int:
    """Return the number of the trial that this one is a retry of, its own number if it is none."""
    return int(trial.user_attrs.get(RETRY_KEY, trial.number))


def counts(study: optuna.Study, trial: FrozenTrial) -> bool:
    """Whether a trial counts towards the search's total: not waiting, repeating, designed, interrupted, lost ones."""
    return not _is_extra(trial) and _is_settled(study, trial)


def is_designed(trial: FrozenTrial | optuna.Trial) -> bool:
    """Whether a trial belongs to the study's designed experiment."""
    return DESIGN_KEY in trial.user_attrs


def _is_extra(trial: FrozenTrial) -> bool:
    """Whether a trial was queued beside the search."""
    return CONFIRM_KEY in trial.user_attrs or is_designed(trial)


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
    running = study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
    return [t.number for t in running if not _is_alive(t, at) and _give_up(study, t)]


def give_up_of(study: optuna.Study, workers: Sequence[str]) -> list[int]:
    """Fail the running trials of workers that their leader knows to be gone; return their numbers."""
    running = study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
    return [t.number for t in running if (owner_of(t) or {}).get("worker") in workers and _give_up(study, t)]


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
        marks = (CONFIRM_KEY, DESIGN_KEY, REPLICATE_KEY)
        kept = {key: trial.user_attrs[key] for key in marks if key in trial.user_attrs}
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


def queue_design(
    study: optuna.Study, runs: Sequence[tuple[int, float, int]], *, further: Mapping[str, Any] | None = None
) -> int:
    """Queue the runs of a designed experiment that aren't there yet; return how many.

    Args:
        study: The study.
        runs: Batch size, learning rate and seed of each.
        further: Values of the study's further parameters.
    """
    there = {
        trial.user_attrs[DESIGN_KEY]
        for trial in study.get_trials(deepcopy=False)
        if is_designed(trial) and (trial.state == TrialState.WAITING or _is_settled(study, trial))
    }
    names = {f"{batch_size}:{lr:.6g}:{seed}": (batch_size, lr, seed) for batch_size, lr, seed in runs}
    missing = {name: run for name, run in names.items() if name not in there}
    for name, (batch_size, lr, seed) in missing.items():
        params = {BATCH_SIZE: batch_size, LR: lr, **(further or {})}
        study.enqueue_trial(params, user_attrs={DESIGN_KEY: name, REPLICATE_KEY: seed})
    return len(missing)


def num_designed(study: optuna.Study) -> int:
    """Return the number of designed runs that ended or are being trained."""
    return sum(is_designed(t) and _is_settled(study, t) for t in study.get_trials(deepcopy=False))


def finalists(study: optuna.Study, count: int = NUM_FINALISTS) -> list[FrozenTrial]:
    """Return the best complete trials of the search, best first, repeats left out."""
    sign = -1.0 if study.direction == StudyDirection.MAXIMIZE else 1.0
    complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    own = [t for t in complete if not _is_extra(t) and t.values]
    return sorted(own, key=lambda t: sign * t.values[0])[:count]


def num_waiting(study: optuna.Study) -> int:
    """Return the number of queued repeats and designed runs."""
    return sum(_is_extra(t) for t in study.get_trials(deepcopy=False, states=(TrialState.WAITING,)))


def num_open(study: optuna.Study, *, total: int) -> int:
    """Return the number of trials that could be begun now: places of the search that are free, and queued extras."""
    trials = study.get_trials(deepcopy=False)  # once: it is what a database takes longest for
    waiting = sum(_is_extra(t) for t in trials if t.state == TrialState.WAITING)
    return total + waiting - num_counted(study, trials)


def _has_place(study: optuna.Study, trial: FrozenTrial) -> bool:
    """Whether a trial waits, runs or ended on its own."""
    return trial.state == TrialState.WAITING or _is_settled(study, trial)


def _identity(trial: FrozenTrial) -> tuple[object, ...]:
    """What only one trial of a study may be: a run of the design, a finalist's repeat, a try of a searched trial."""
    attributes = trial.user_attrs
    if is_designed(trial):
        return DESIGN_KEY, attributes[DESIGN_KEY]
    if CONFIRM_KEY in attributes:
        return CONFIRM_KEY, attributes[CONFIRM_KEY], attributes.get(REPLICATE_KEY)
    return "search", root_of(trial)


def _give_up(study: optuna.Study, frozen: FrozenTrial) -> bool:
    record = replace(
        read_record(study, frozen),
        outcome="fail",
        stop_reason=StopReason.LOST,
        message="its process was gone without a word; it is run again",
    )
    return _fail(study, optuna.Trial(study, frozen._trial_id), record)


def _fail(study: optuna.Study, trial: optuna.Trial, record: TrialRecord) -> bool:
    try:
        write_record(trial, record)
        study.tell(trial, state=TrialState.FAIL)
    except (ValueError, RuntimeError, optuna.exceptions.UpdateFinishedTrialError):  # somebody else was faster
        return False
    return True


def _is_alive(trial: FrozenTrial, now: float) -> bool:
    owner = owner_of(trial)
    if owner is not None and all(owner.get(key) == value for key, value in _here().items()):
        born = _born(int(owner["pid"]))
        return born is not None and born == owner.get("born")
    # On another host, or before a reboot, or killed before it could say whose it is, or not one of ours.
    started = trial.datetime_start.timestamp() if trial.datetime_start else 0.0
    return now - float(trial.user_attrs.get(ALIVE_KEY, started)) < GRACE_SECONDS


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
