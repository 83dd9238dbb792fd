"""Trials that end without a value move the search (they once had it propose one point until the budget ended)."""

from __future__ import annotations

import math

import optuna
import pytest

from bsopt import ScalingSampler

NUM_TRIALS = 30


def _study(seed: int, pruner: optuna.pruners.BasePruner | None = None) -> optuna.Study:
    return optuna.create_study(sampler=ScalingSampler(seed=seed), pruner=pruner or optuna.pruners.NopPruner())


def _value(batch_size: int, lr: float) -> float:
    """A valley along lr ∝ B, best at batch size 32 with 0.01."""
    return (math.log2(lr / 0.01) - math.log2(batch_size / 32)) ** 2 + 0.1 * math.log2(batch_size / 32) ** 2


def _points(study: optuna.Study) -> set[tuple[int, float]]:
    return {(t.params["batch_size"], round(math.log2(t.params["lr"]), 1)) for t in study.trials if "lr" in t.params}


def _longest_streak(study: optuna.Study) -> int:
    longest = streak = 0
    for trial in study.trials:
        streak = 0 if trial.state == optuna.trial.TrialState.COMPLETE else streak + 1
        longest = max(longest, streak)
    return longest


@pytest.mark.parametrize("seed", range(3))
def test_a_diverged_trial_moves_the_search(seed: int) -> None:
    def objective(trial: optuna.Trial) -> float:
        size, lr = trial.suggest_int("batch_size", 8, 1024, log=True), trial.suggest_float("lr", 1e-5, 1, log=True)
        if lr > 0.004:  # below the usual default
            trial.report(math.nan, 1)
            raise optuna.TrialPruned
        return abs(math.log2(lr / 0.001)) + 0.1 * math.log2(size)

    study = _study(seed)
    study.optimize(objective, n_trials=NUM_TRIALS)
    assert len(_points(study)) > 20
    assert len(study.get_trials(states=(optuna.trial.TrialState.COMPLETE,))) >= 20
    assert _longest_streak(study) <= 3


@pytest.mark.parametrize("seed", range(3))
def test_a_trial_pruned_where_the_value_is_another_metric_moves_the_search(seed: int) -> None:
    def objective(trial: optuna.Trial) -> float:
        size, lr = trial.suggest_int("batch_size", 8, 1024, log=True), trial.suggest_float("lr", 1e-5, 1, log=True)
        value = _value(size, lr)
        for step in range(1, 5):
            trial.report(100.0 + value / step, step)
            if trial.should_prune():
                raise optuna.TrialPruned
        return value

    study = _study(seed, optuna.pruners.MedianPruner(n_startup_trials=3))
    study.optimize(objective, n_trials=NUM_TRIALS)
    assert len(_points(study)) > 20
    assert study.best_value < 0.5


@pytest.mark.parametrize("seed", range(3))
def test_batch_sizes_that_raise_are_left(seed: int) -> None:
    def objective(trial: optuna.Trial) -> float:
        size = trial.suggest_int("batch_size", 8, 1024, log=True)
        if size > 64:
            raise RuntimeError("too large")
        lr = trial.suggest_float("lr", 1e-5, 1, log=True)
        return -math.log2(size) + abs(math.log2(lr / 0.01))

    study = _study(seed)
    study.optimize(objective, n_trials=NUM_TRIALS, catch=(RuntimeError,))
    assert len(study.get_trials(states=(optuna.trial.TrialState.COMPLETE,))) >= 22
    assert _longest_streak(study) <= 3
    assert study.best_params["batch_size"] == 64


@pytest.mark.parametrize("seed", range(3))
def test_a_trial_that_fails_before_the_learning_rate_is_suggested_moves_the_search(seed: int) -> None:
    def objective(trial: optuna.Trial) -> float:
        size = trial.suggest_int("batch_size", 8, 1024, log=True)
        if size >= 32:
            raise RuntimeError("too large")
        return _value(size, trial.suggest_float("lr", 1e-5, 1, log=True))

    study = _study(seed)
    study.optimize(objective, n_trials=NUM_TRIALS, catch=(RuntimeError,))
    assert len(study.get_trials(states=(optuna.trial.TrialState.COMPLETE,))) >= 20
    assert _longest_streak(study) <= 3


def test_one_failure_of_many_teaches_no_boundary() -> None:
    failures = iter([False] * 6 + [True] + [False] * 23)

    def objective(trial: optuna.Trial) -> float:
        size, lr = trial.suggest_int("batch_size", 8, 1024, log=True), trial.suggest_float("lr", 1e-5, 1, log=True)
        if next(failures):
            raise RuntimeError("the network was gone")
        return _value(size, lr)

    study = _study(0)
    study.optimize(objective, n_trials=NUM_TRIALS, catch=(RuntimeError,))
    assert study.best_value < 0.2


def test_hyperband_asks_for_trials_of_one_bracket() -> None:
    def objective(trial: optuna.Trial) -> float:
        size, lr = trial.suggest_int("batch_size", 8, 1024, log=True), trial.suggest_float("lr", 1e-5, 1, log=True)
        for step in range(1, 10):
            trial.report(_value(size, lr) + 1.0 / step, step)
            if trial.should_prune():
                raise optuna.TrialPruned
        return _value(size, lr)

    study = _study(0, optuna.pruners.HyperbandPruner(1, 9, 3))
    study.optimize(objective, n_trials=NUM_TRIALS)
    assert study.best_value < 0.5
