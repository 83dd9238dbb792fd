"""Trials that were pruned but may be gone on with: which one, and what its continuation starts from.

To Optuna a paused trial is a pruned one. Its continuation is a trial of its own with the same parameters, which names
it in the user attribute `continues`. In plain Optuna:

    def objective(trial):
        start, earlier = 0, bsopt.continued(trial)
        if earlier is not None:
            start = load_checkpoint(f"{earlier.number}.ckpt")
        for epoch in range(start, 20):
            ...
            trial.report(val_loss, epoch + 1)
            save_checkpoint(f"{trial.number}.ckpt")
            if (value := bsopt.conclude(trial)) is not None:
                return value
        return val_loss

    study = optuna.create_study(pruner=bsopt.PlateauPruner(pause_below=0.3))
    study.optimize(objective, n_trials=40, callbacks=[bsopt.continue_paused])
    while bsopt.continue_paused(study, at_end=True) is not None:
        study.optimize(objective, n_trials=1)

The last two lines go on with whatever is not hopeless by then: a pause puts a trial off, and alone ends none.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import optuna
from optuna.trial import FrozenTrial, TrialState

from bsopt.search.pruner import PlateauPruner
from bsopt.storage.attributes import continued_number, read_stop_reason
from bsopt.storage.queue import queue_continuation
from bsopt.trial.record import StopReason

__all__ = ["continue_paused", "continued", "worth_continuing"]


def continue_paused(study: optuna.Study, trial: FrozenTrial | None = None, *, at_end: bool = False) -> int | None:
    """Queue the paused trial whose chance to be the best has come back, and return its number; None where none has.

    A callback for `study.optimize`, which calls it after each trial. One continuation is queued at a time, the most
    promising first; each trial is continued at most once, and a diverged one never. Does nothing unless the study's
    pruner is a `PlateauPruner` that pauses.

    Args:
        study: A study with one objective.
        trial: The trial that has just ended; not needed.
        at_end: No new trials are to come: any paused trial that the pruner wouldn't call hopeless is worth it.
    """
    number = worth_continuing(study, at_end=at_end)
    if number is not None:
        queue_continuation(study, number)
    return number


def worth_continuing(
    study: optuna.Study, *, at_end: bool = False, can_continue: Callable[[FrozenTrial], bool] | None = None
) -> int | None:
    """Return the number of the paused trial that `continue_paused` would queue now; None where none is worth it.

    Args:
        study: A study with one objective.
        at_end: As in `continue_paused`.
        can_continue: Whether a trial can be gone on with here; None where all can.
    """
    pruner = study.pruner
    if not isinstance(pruner, PlateauPruner) or not pruner.pause_below or len(study.directions) != 1:
        return None
    trials = study.get_trials(deepcopy=False)
    if any(continued_number(t) is not None for t in trials if t.state == TrialState.WAITING):
        return None
    least = pruner.threshold if at_end else pruner.continue_above
    chances = {t.number: pruner.chance(study, t) for t in _paused(trials) if can_continue is None or can_continue(t)}
    worth = {number: chance for number, chance in chances.items() if chance >= least}  # an unknown one isn't
    return max(worth, key=lambda number: worth[number], default=None)


def continued(trial: optuna.trial.BaseTrial) -> FrozenTrial | None:
    """Return the paused trial that this one goes on from, whose reports it is given; None for a trial from the start.

    Call it at the start of an objective, and load that trial's checkpoint: weights, optimizer and learning-rate
    schedule.

    Args:
        trial: The live trial. A `FixedTrial` or `FrozenTrial`, with which an objective is run again outside its study,
            is one from the start.

    Raises:
        optuna.TrialPruned: An earlier trial goes on from the same one, as two threads or processes may both queue it.
    """
    if not isinstance(trial, optuna.Trial) or (number := continued_number(trial)) is None:
        return None
    trials = trial.study.get_trials(deepcopy=False)
    for twin in trials[: trial.number]:
        if continued_number(twin) == number and twin.state != TrialState.FAIL:
            raise optuna.TrialPruned(f"trial {twin.number} goes on from trial {number} already")
    earlier = trials[number]
    for step, value in sorted(earlier.intermediate_values.items()):
        trial.report(value, step)
    return earlier


def _paused(trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    """Return the pruned trials that could be gone on with: no other has, and their last report is a number.

    No continuation is paused, so a pruned one isn't either. A hopeless trial isn't; but where an objective only asks
    `should_prune`, nobody has stored why a trial ended.
    """
    gone_on = {continued_number(t) for t in trials}
    found = [t for t in trials if t.state == TrialState.PRUNED and t.number not in gone_on and t.intermediate_values]
    found = [t for t in found if continued_number(t) is None]
    found = [t for t in found if math.isfinite(t.intermediate_values[max(t.intermediate_values)])]
    return [t for t in found if read_stop_reason(t) in (None, StopReason.PAUSED)]
