from __future__ import annotations

from pathlib import Path

import optuna
import optunahub
import pytest

REGISTRY = str(Path(__file__).parents[3])
module = optunahub.load_local_module("visualization/batch_size_lr", registry_root=REGISTRY)


@pytest.mark.parametrize("name", [name for name in module.__all__ if name.startswith("plot_")])
def test_plots_are_drawn_from_any_study(name: str) -> None:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(0))
    for trial in (study.ask() for _ in range(6)):
        bs, eta = trial.suggest_int("bs", 8, 64, log=True), trial.suggest_float("eta", 1e-3, 1.0, log=True)
        trial.report(bs * eta, 1)
        study.tell(trial, bs * eta)
    assert getattr(module, name)(study, batch_size="bs", lr="eta").data
