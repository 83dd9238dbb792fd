"""Which trials count, which are to be run again, and whose are still alive; the same on every storage.

A running trial carries its owner (host, process, the process's start) and the time of its last sign of life.
One whose owner is gone, or silent for too long on another host, is lost: it is failed, doesn't count, and is
queued again with the same parameters, once.

Hosts agree without a lock: a trial's number is given by the storage, so every host sees the same order. A claimed
trial that an earlier one makes superfluous (the last place is taken, or the same retry was queued twice) is handed
back before it trains.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import optuna
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from bsopt.storage.attributes import (
    BATCH_SIZE,
    CONFIRM_KEY,
    CONTINUES,
    DESIGN_KEY,
    LOOK_KEY,
    LR,
    REPLICATE_KEY,
    RETRY_KEY,
    SETTLE_KEY,
    VARIANT_KEY,
    continued_number,
    enqueued_params,
    read_stop_reason,
)
from bsopt.trial.designed import DesignedRun

__all__ = [
    "NUM_FINALISTS",
    "excess",
    "is_designed",
    "is_repeat",
    "is_settling",
    "num_counted",
    "num_designed",
    "num_left",
    "num_open",
    "num_waiting",
    "num_waiting_designed",
    "numbers_gone_on_with",
    "queue_confirmations",
    "queue_continuation",
    "queue_design",
    "queue_retries",
    "queue_settling",
    "replicate_of",
    "root_of",
    "variant_of",
]

NUM_FINALISTS = 3
"""So many of the best trials are repeated, and keep their weights."""


def excess(study: optuna.Study, trial: optuna.Trial, *, total: int) -> str:
    """Return why a claimed trial must not be trained; empty when it may.

    Two hosts may both see the study's last place free, or both queue a lost trial again. The lower number is right.

    Args:
        study: The study.
        trial: A trial that this process has claimed.
        total: Trials that the search may have.
    """
    trials = study.get_trials(deepcopy=False)
    frozen, earlier = trials[trial.number], [t for t in trials[: trial.number] if _has_place(t)]
    if _identity(frozen) in {_identity(t) for t in earlier}:
        return "another host runs the same trial"
    if not _is_beside(frozen) and sum(not _is_beside(t) for t in earlier) >= total:
        return f"the study has its {total} trials"
    return ""


def root_of(trial: FrozenTrial | optuna.Trial) -> int:
    """Return the number of the trial that this one is a retry or continuation of, its own number if it is none."""
    return int(trial.user_attrs.get(RETRY_KEY, trial.user_attrs.get(CONTINUES, trial.number)))


def is_designed(trial: FrozenTrial | optuna.Trial) -> bool:
    """Whether a trial belongs to the study's designed experiment."""
    return DESIGN_KEY in trial.user_attrs


def is_repeat(trial: FrozenTrial | optuna.Trial) -> bool:
    """Whether a trial repeats a finalist."""
    return CONFIRM_KEY in trial.user_attrs


def is_settling(trial: FrozenTrial | optuna.Trial) -> bool:
    """Whether a trial was queued to settle what a recommendation left open."""
    return SETTLE_KEY in trial.user_attrs


def replicate_of(trial: FrozenTrial | optuna.Trial) -> int | None:
    """Return which repeat of a finalist, or which seed of the designed experiment, a trial is; None in the search."""
    replicate = trial.user_attrs.get(REPLICATE_KEY)
    return None if replicate is None else int(replicate)


def variant_of(trial: FrozenTrial | optuna.Trial) -> str | None:
    """Return the name of the experiment's variant that a trial trains; None for the study's own settings."""
    name = trial.user_attrs.get(VARIANT_KEY)
    return None if name is None else str(name)


def num_counted(study: optuna.Study, trials: Sequence[FrozenTrial] | None = None) -> int:
    """Return the number of trials that count towards the search's total, running ones included.

    Waiting, interrupted and lost trials don't count, nor do repeats of finalists and designed runs. A paused trial and
    its continuation count as one.

    Args:
        study: The study.
        trials: Its trials, where they are known; None to read them.
    """
    found = study.get_trials(deepcopy=False) if trials is None else trials
    return sum(not _is_beside(trial) and _is_settled(trial) for trial in found)


def queue_retries(study: optuna.Study, *, total: int) -> int:
    """Queue interrupted and lost trials again that aren't yet and whose place no other took; return how many.

    Args:
        study: The study.
        total: Trials that the search may have.
    """
    trials = study.get_trials(deepcopy=False)
    settled = {(root_of(t), continued_number(t)) for t in trials if _has_place(t)}
    free = total - sum(not _is_beside(t) for t in trials if _has_place(t))
    queued = 0
    for trial in trials:
        root = root_of(trial)
        params = {**(enqueued_params(trial) or {}), **trial.params}
        if trial.state != TrialState.FAIL or (root, continued_number(trial)) in settled or not params:
            continue
        if not _is_beside(trial):
            if free <= 0:
                continue
            free -= 1
        settled.add((root, continued_number(trial)))
        marks = (CONFIRM_KEY, CONTINUES, DESIGN_KEY, LOOK_KEY, REPLICATE_KEY, SETTLE_KEY, VARIANT_KEY)
        kept = {key: trial.user_attrs[key] for key in marks if key in trial.user_attrs}
        study.enqueue_trial(params, user_attrs={**kept, RETRY_KEY: root})
        queued += 1
    return queued


def queue_continuation(study: optuna.Study, number: int) -> None:
    """Queue a paused trial again: as a trial of its own with the same parameters, which names the paused one."""
    paused = study.get_trials(deepcopy=False)[number]
    root = root_of(paused)
    retry = {} if root == number else {RETRY_KEY: root}
    study.enqueue_trial(dict(paused.params), user_attrs={CONTINUES: number, **retry})


def queue_confirmations(study: optuna.Study, *, replicates: int, most: int | None = None) -> int:
    """Queue repeats of the best trials over fresh seeds, those that aren't there yet; return how many.

    Args:
        study: The study.
        replicates: Of each finalist.
        most: Repeats in all, the best trials' first; None for no limit.
    """
    trials = study.get_trials(deepcopy=False)
    done = {
        (int(t.user_attrs[CONFIRM_KEY]), int(t.user_attrs[REPLICATE_KEY]))
        for t in trials
        if is_repeat(t) and _has_place(t)
    }
    wanted = [(t, i) for t in _finalists(study) for i in range(replicates)][:most]
    missing = [(t, i) for t, i in wanted if (t.number, i) not in done]
    if most is not None:
        missing = missing[: max(0, most - len(done))]
    for trial, replicate in missing:
        study.enqueue_trial(dict(trial.params), user_attrs={CONFIRM_KEY: trial.number, REPLICATE_KEY: replicate})
    return len(missing)


def queue_settling(study: optuna.Study, runs: Sequence[tuple[Mapping[str, Any], int | None]]) -> int:
    """Queue the trials that would settle what is open, beside the search's number; return how many.

    Nothing is queued while some of an earlier call still wait.

    Args:
        study: The study.
        runs: Every parameter of each, and the number of the trial that it repeats over a fresh seed, if it does.
    """
    trials = study.get_trials(deepcopy=False)
    if any(is_settling(trial) and trial.state == TrialState.WAITING for trial in trials):
        return 0
    taken = [int(t.user_attrs[REPLICATE_KEY]) for t in trials if is_repeat(t)]
    fresh = max(taken, default=-1) + 1
    for place, (params, repeats) in enumerate(runs):
        marks: dict[str, Any] = {SETTLE_KEY: len(trials) + place}
        if repeats is not None:
            marks |= {CONFIRM_KEY: repeats, REPLICATE_KEY: fresh + place}
        study.enqueue_trial(dict(params), user_attrs=marks)
    return len(runs)


def queue_design(
    study: optuna.Study,
    runs: Sequence[DesignedRun],
    *,
    further: Mapping[str, Any] | None = None,
    look: int = 0,
) -> int:
    """Queue the runs of a designed experiment that aren't there yet; return how many.

    Args:
        study: The study.
        runs: Each is queued once.
        further: Values of the study's further parameters.
        look: How often the experiment was judged before it asked for them; 0 for those of the study file.
    """
    there = {
        trial.user_attrs[DESIGN_KEY]
        for trial in study.get_trials(deepcopy=False)
        if is_designed(trial) and _has_place(trial)
    }
    missing = {run.key: run for run in runs if run.key not in there}
    for key, run in missing.items():
        params = {BATCH_SIZE: run.batch_size, LR: run.lr, **(further or {})}
        asked = {key: value for key, value in ((LOOK_KEY, look), (VARIANT_KEY, run.variant)) if value}
        study.enqueue_trial(params, user_attrs={DESIGN_KEY: key, REPLICATE_KEY: run.seed, **asked})
    return len(missing)


def numbers_gone_on_with(study: optuna.Study) -> frozenset[int]:
    """Return the numbers of the paused trials that another trial went on from: it ended there, or is under way."""
    numbers = (continued_number(t) for t in study.get_trials(deepcopy=False) if _is_settled(t))
    return frozenset(number for number in numbers if number is not None)


def num_waiting_designed(study: optuna.Study) -> int:
    """Return the number of queued designed runs that nobody has begun."""
    return sum(is_designed(t) and t.state == TrialState.WAITING for t in study.get_trials(deepcopy=False))


def num_designed(study: optuna.Study) -> int:
    """Return the number of designed runs that ended or are being trained."""
    return sum(is_designed(t) and _is_settled(t) for t in study.get_trials(deepcopy=False))


def num_waiting(study: optuna.Study) -> int:
    """Return the number of queued repeats, designed runs, runs that settle what is open, and continuations."""
    return sum(_is_beside(t) for t in study.get_trials(deepcopy=False, states=(TrialState.WAITING,)))


def num_left(study: optuna.Study, total: int | None) -> int:
    """Return the number of trials that the search lacks while nobody trains; 0 where its total isn't known."""
    trials = study.get_trials(deepcopy=False)
    is_at_rest = all(t.state != TrialState.RUNNING for t in trials)
    return max(0, (total or 0) - num_counted(study, trials)) if is_at_rest else 0


def num_open(study: optuna.Study, *, total: int) -> int:
    """Return the number of trials that could be begun now: places of the search that are free, and queued extras."""
    trials = study.get_trials(deepcopy=False)  # once: it is what a database takes longest for
    waiting = sum(_is_beside(t) for t in trials if t.state == TrialState.WAITING)
    return max(0, total - num_counted(study, trials)) + waiting


def _finalists(study: optuna.Study) -> list[FrozenTrial]:
    """Return the best complete trials of the search, best first, repeats left out."""
    is_maximised = study.direction == StudyDirection.MAXIMIZE
    complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    own = [t for t in complete if not _is_extra(t) and t.values]
    return sorted(own, key=lambda t: t.values[0], reverse=is_maximised)[:NUM_FINALISTS]


def _is_extra(trial: FrozenTrial) -> bool:
    """Whether a trial was queued beside the search."""
    return is_repeat(trial) or is_designed(trial) or is_settling(trial)


def _is_beside(trial: FrozenTrial) -> bool:
    """Whether a trial takes none of the search's places: an extra one, or one that goes on from a paused trial."""
    return _is_extra(trial) or continued_number(trial) is not None


def _has_place(trial: FrozenTrial) -> bool:
    """Whether a trial waits, runs or ended on its own."""
    return trial.state == TrialState.WAITING or _is_settled(trial)


def _is_settled(trial: FrozenTrial) -> bool:
    """Whether a trial runs or ended on its own."""
    if trial.state == TrialState.WAITING:
        return False
    if trial.state != TrialState.FAIL:
        return True
    reason = read_stop_reason(trial)
    if reason is None:
        return bool(trial.params)  # of somebody else; one without parameters never began
    return not reason.is_retried


def _identity(trial: FrozenTrial) -> tuple[object, ...]:
    """What only one trial of a study may be: a run of the design, a finalist's repeat, a try of a searched trial."""
    attributes = trial.user_attrs
    if is_designed(trial):
        return DESIGN_KEY, attributes[DESIGN_KEY]
    if is_repeat(trial):
        return CONFIRM_KEY, attributes[CONFIRM_KEY], attributes.get(REPLICATE_KEY)
    if is_settling(trial):
        return SETTLE_KEY, attributes[SETTLE_KEY]
    if (number := continued_number(trial)) is not None:
        return CONTINUES, number
    return "search", root_of(trial)
