"""One answer to whether a trial stops and why, and to what Optuna is told of it."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import optuna
import pytest

from bsopt.config import StudyConfig
from bsopt.errors import ConfigError, TaskError
from bsopt.search.pruner import PlateauPruner
from bsopt.storage import queue
from bsopt.study.stopping import Stopping, designed_patience, value_to_tell
from bsopt.trial.designed import DesignedRun
from bsopt.trial.objective import Objective
from bsopt.trial.record import StopReason, StudyInfo, Tick, TrialRecord

LOSS = Objective("val_loss")


class AlwaysPrunes(optuna.pruners.BasePruner):
    """Would end any trial at any tick."""

    def prune(self, study: optuna.Study, trial: optuna.trial.FrozenTrial) -> bool:
        return True


def ticks(*values: float) -> list[Tick]:
    return [
        Tick(index=i, samples=100.0 * i, step=10 * i, epoch=float(i), seconds=float(i), value=value)
        for i, value in enumerate(values, start=1)
    ]


def asked(study: optuna.Study, *curve: float) -> optuna.Trial:
    """Return a running trial that has reported its curve."""
    trial = study.ask()
    trial.suggest_int("batch_size", 4, 32, log=True)
    trial.suggest_float("lr", 0.001, 0.3, log=True)
    for tick in ticks(*curve):
        trial.report(tick.value, round(tick.samples))
    return trial


def decide(trial: optuna.Trial, *curve: float, objective: Objective = LOSS, **options: Any) -> StopReason | None:
    return Stopping(trial.study, trial, objective=objective, **options).decide(ticks(*curve)).stop_reason


@pytest.fixture
def study() -> optuna.Study:
    return optuna.create_study(pruner=AlwaysPrunes())


def test_what_the_metric_says_comes_before_everything(study: optuna.Study) -> None:
    target = Objective("val_loss", target=0.5, cost="samples")
    trial = asked(study, 1.0)
    assert decide(trial, 1.0) is StopReason.PRUNED
    assert decide(trial, math.nan) is None
    assert decide(trial, math.nan, math.nan) is StopReason.DIVERGED
    assert decide(trial, math.nan, math.nan, budget_samples=200.0) is StopReason.DIVERGED
    assert decide(trial, 0.4, objective=target, budget_samples=100.0) is StopReason.TARGET_REACHED


def test_the_last_validation_of_the_budget_is_never_pruned(study: optuna.Study) -> None:
    trial = asked(study, 2.0, 1.0)
    assert decide(trial, 2.0, 1.0, budget_samples=200.0) is None
    assert decide(trial, 2.0, 1.0, budget_samples=201.0) is StopReason.PRUNED


def test_a_finalists_repeat_is_trained_to_its_end(study: optuna.Study) -> None:
    first = asked(study, 1.0)
    study.tell(first, 1.0)
    queue.queue_confirmations(study, replicates=1)
    repeat = asked(study, 1.0)
    assert queue.is_repeat(repeat)
    assert decide(repeat, 1.0) is None
    assert decide(repeat, math.nan, math.nan) is StopReason.DIVERGED


def test_a_designed_run_ends_by_its_patience_and_by_no_pruner(study: optuna.Study) -> None:
    queue.queue_design(study, [DesignedRun(8, 0.01, 0)])
    designed = asked(study, 1.0)
    assert decide(designed, 1.0, 2.0, patience=200.0) is None
    assert decide(designed, 1.0, 2.0, 2.0, patience=200.0) is StopReason.CONVERGED
    searched = asked(study, 1.0)
    assert decide(searched, 1.0, 2.0, patience=200.0) is StopReason.PRUNED


def test_our_pruner_says_which_of_its_rules_it_was(study: optuna.Study) -> None:
    study.pruner = PlateauPruner(rule="keras", patience=200.0)
    flat = asked(study, 1.0, 2.0, 2.0)
    assert decide(flat, 1.0, 2.0, 2.0) is StopReason.CONVERGED
    assert decide(asked(study, 3.0, 2.0, 1.0), 3.0, 2.0, 1.0) is None


def test_the_patience_of_a_design_is_counted_in_samples(configure: Callable[..., StudyConfig]) -> None:
    experiment = {"batch_sizes": [4, 8], "reference_lr": 0.01, "patience": "3 epochs"}
    info = StudyInfo("s", num_train_samples=96)
    assert designed_patience(configure(), info) is None
    assert designed_patience(configure(experiment=experiment), info) == 288.0
    with pytest.raises(ConfigError, match="no known length"):
        designed_patience(configure(experiment=experiment), StudyInfo("s"))


def record(reason: StopReason, value: float | None = 0.5, **changes: Any) -> TrialRecord:
    return TrialRecord(0, reason.outcome, stop_reason=reason, value=value, ticks=tuple(ticks(0.7, 0.5)), **changes)


@pytest.mark.parametrize(
    ("cost", "told"), [(None, 0.5), ("seconds", 2.0), ("samples", 200.0), ("steps", 20.0), ("energy", 7.0)]
)
def test_optuna_is_told_the_best_metric_or_what_the_target_cost(cost: Any, told: float) -> None:
    ended = record(StopReason.TARGET_REACHED, energy_joules=7.0)
    objective = Objective("val_loss", target=0.5, cost=cost) if cost else LOSS
    assert value_to_tell(ended, objective) == told


@pytest.mark.parametrize(
    ("ended", "objective"),
    [
        (record(StopReason.PRUNED_PLATEAU), LOSS),
        (record(StopReason.DIVERGED), LOSS),
        (record(StopReason.COMPLETED, None), LOSS),
        (record(StopReason.COMPLETED), Objective("val_loss", target=0.1, cost="seconds")),
    ],
)
def test_optuna_is_told_that_a_trial_without_a_value_was_pruned(ended: TrialRecord, objective: Objective) -> None:
    with pytest.raises(optuna.TrialPruned):
        value_to_tell(ended, objective)


def test_energy_that_cannot_be_measured_is_a_mistake_of_the_study() -> None:
    with pytest.raises(TaskError, match="energy can't be measured"):
        value_to_tell(record(StopReason.TARGET_REACHED), Objective("val_loss", target=0.5, cost="energy"))
