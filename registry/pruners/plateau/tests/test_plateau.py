from __future__ import annotations

from pathlib import Path

import optuna
import optunahub
from optuna.pruners import BasePruner
from optuna.trial import TrialState

REGISTRY = str(Path(__file__).parents[3])
module = optunahub.load_local_module("pruners/plateau", registry_root=REGISTRY)


def test_a_flat_curve_ends_as_complete_with_its_best_value() -> None:
    pruner = module.PlateauPruner(patience=3, rule="keras", decays_to_end=False)
    assert isinstance(pruner, BasePruner)

    def objective(trial: optuna.Trial) -> float:
        trial.suggest_float("lr", 0.1, 0.2)
        for epoch in range(30):
            trial.report(max(1.0 - 0.2 * epoch, 0.5), epoch)
            if (value := module.conclude(trial)) is not None:
                return value
        return 0.5

    study = optuna.create_study(pruner=pruner)
    study.optimize(objective, n_trials=3)
    assert {trial.state for trial in study.trials} == {TrialState.COMPLETE}
    assert study.best_value == 0.5
