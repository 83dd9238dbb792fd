from __future__ import annotations

import math
from pathlib import Path

import optuna
import optunahub
from optuna.samplers import BaseSampler

REGISTRY = str(Path(__file__).parents[3])
ScalingSampler = optunahub.load_local_module("samplers/scaling", registry_root=REGISTRY).ScalingSampler


def objective(trial: optuna.Trial) -> float:
    batch_size = trial.suggest_int("batch_size", 8, 1024, log=True)
    lr = trial.suggest_float("lr", 1e-4, 1.0, log=True)
    return (math.log2(lr) + 5.0 - math.log2(batch_size / 64)) ** 2 + 0.1 * abs(math.log2(batch_size / 64))


def test_is_a_sampler_that_finds_the_basin() -> None:
    sampler = ScalingSampler(seed=0)
    assert isinstance(sampler, BaseSampler)
    study = optuna.create_study(sampler=sampler)
    study.optimize(objective, n_trials=10)
    assert study.best_value < 1.0
    assert all(trial.params["batch_size"] & (trial.params["batch_size"] - 1) == 0 for trial in study.trials)
