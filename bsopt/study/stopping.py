"""Does this trial stop, and why? The one place that answers, and that says what Optuna is told of an ended trial.

What ends a trial, in the order in which it counts:

- *Its own metric*: not finite as it is after divergence, or at the target (`bsopt.trial.curve`, pure rules).
- *Its end is near or fixed*: the last validation of its budget, and repeats of finalists, are never cut short.
- *The design*: a designed run trains until its metric hasn't improved for the experiment's patience.
- *The pruner*: ours says which of its rules it was; one of Optuna's says yes or no.

These are asked after each validation. Between validations the trial's own process ends it when its time is over, and
the user's interrupt ends it everywhere; a crash comes with its reason. Every answer is a `StopReason`, and
`StopReason.outcome` is what is stored.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import optuna

from bsopt.config import StudyConfig
from bsopt.errors import TaskError
from bsopt.search.pruner import PlateauPruner
from bsopt.storage import queue
from bsopt.trial.curve import cost_at, end_by_patience, end_by_value
from bsopt.trial.objective import Objective
from bsopt.trial.record import StopReason, StudyInfo, Tick, TrialRecord
from bsopt.trial.spec import StopDecision
from bsopt.units import in_samples

__all__ = ["Stopping", "designed_patience", "value_to_tell"]


class Stopping:
    """Decides after each validation of one trial whether it stops.

    Args:
        study: The study, whose pruner is asked.
        trial: The running trial, whose ticks have been reported.
        objective: What counts.
        budget_samples: Nominal samples of a full trial; None where it has no length.
        patience: Nominal samples without improvement after which a designed run ends; None without an experiment.
    """

    def __init__(
        self,
        study: optuna.Study,
        trial: optuna.Trial,
        *,
        objective: Objective,
        budget_samples: float | None = None,
        patience: float | None = None,
    ) -> None:
        self._study = study
        self._trial = trial
        self._objective = objective
        self._budget_samples = budget_samples or float("inf")
        self._is_repeat = queue.is_repeat(trial) or queue.is_settling(trial)
        self._patience = patience if queue.is_designed(trial) else None

    def decide(self, ticks: Sequence[Tick]) -> StopDecision:
        """Return whether the trial stops after the last of its ticks."""
        tick = ticks[-1]
        by_value = end_by_value(ticks, self._objective)
        if by_value.is_stop or not math.isfinite(tick.value):  # a single such validation says nothing
            return by_value
        if tick.samples >= self._budget_samples or self._is_repeat:
            return StopDecision()
        if self._patience is not None:
            return end_by_patience(ticks, self._objective, self._patience)
        return self._ask_pruner(tick)

    def _ask_pruner(self, tick: Tick) -> StopDecision:
        pruner = self._study.pruner
        if isinstance(pruner, PlateauPruner):
            frozen = self._study.get_trials(deepcopy=False)[self._trial.number]
            spent = cost_at(tick, self._objective.cost)
            return pruner.decide(self._study, frozen, decay_remaining=tick.is_decaying, spent=spent)
        if self._trial.should_prune():
            return StopDecision(StopReason.PRUNED, f"pruned by {type(pruner).__name__} at {tick.value:.5g}")
        return StopDecision()


def designed_patience(config: StudyConfig, info: StudyInfo) -> float | None:
    """Return the nominal samples without improvement after which a designed run ends; None without an experiment.

    Raises:
        ConfigError: The patience is in epochs and the training set's length isn't known.
    """
    experiment = config.experiment
    if experiment is None:
        return None
    return in_samples(experiment.patience, info.num_train_samples, "experiment.patience")


def value_to_tell(record: TrialRecord, objective: Objective) -> float:
    """Return what Optuna minimises or maximises for an ended trial: its best metric, or what the target cost.

    Raises:
        optuna.TrialPruned: It was pruned, never measured anything, or never reached the target.
        TaskError: The cost is energy, which this machine can't measure.
    """
    if record.outcome == "pruned" or record.value is None:
        raise optuna.TrialPruned(record.message)
    if objective.cost is None:
        return record.value
    if record.stop_reason is not StopReason.TARGET_REACHED:
        raise optuna.TrialPruned(f"{record.message}; it never reached the target")
    cost = record.energy_joules if objective.cost == "energy" else cost_at(record.ticks[-1], objective.cost)
    if cost is None:
        raise TaskError("objective.cost: energy, but the energy can't be measured on this machine.")
    return cost
