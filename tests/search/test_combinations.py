"""Optuna's pruners with our sampler, and our pruner with Optuna's samplers, whatever is reported and at what steps."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import optuna
import pytest
from optuna.pruners import BasePruner
from optuna.samplers import BaseSampler
from optuna.trial import TrialState

import bsopt
from bsopt.search.learning_curves import Curves

pytestmark = pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")

SAMPLES = 4096
EPOCHS = 8

STEPS: dict[str, Callable[[int, int], Sequence[float]]] = {
    "samples": lambda size, number: [SAMPLES * e for e in range(1, EPOCHS + 1)],
    "epochs from 0": lambda size, number: range(EPOCHS),
    "epochs from 1": lambda size, number: range(1, EPOCHS + 1),
    "updates": lambda size, number: [SAMPLES * e // size for e in range(1, EPOCHS + 1)],
    "irregular": lambda size, number: np.unique(
        [*np.random.default_rng(number).integers(1, SAMPLES * EPOCHS, 9).tolist(), SAMPLES * EPOCHS]
    ),
    "four an epoch": lambda size, number: [SAMPLES // 4 * q for q in range(1, 4 * EPOCHS + 1)],
}
"""From batch size and trial number to the steps of a trial's reports."""

PRUNERS: dict[str, Callable[[], BasePruner]] = {
    "plateau": lambda: bsopt.PlateauPruner(),
    "pausing": lambda: bsopt.PlateauPruner(pause_below=0.5),
    "median": lambda: optuna.pruners.MedianPruner(n_startup_trials=2),
    "percentile": lambda: optuna.pruners.PercentilePruner(50.0, n_startup_trials=2),
    "halving": lambda: optuna.pruners.SuccessiveHalvingPruner(),
    "hyperband": lambda: optuna.pruners.HyperbandPruner(min_resource=1, max_resource=EPOCHS),
    "threshold": lambda: optuna.pruners.ThresholdPruner(lower=0.0, upper=5.0),
    "patient": lambda: optuna.pruners.PatientPruner(optuna.pruners.MedianPruner(), patience=2),
    "wilcoxon": lambda: optuna.pruners.WilcoxonPruner(),
    "none": lambda: optuna.pruners.NopPruner(),
}

SAMPLERS: dict[str, Callable[[], BaseSampler]] = {
    "tpe": lambda: optuna.samplers.TPESampler(seed=0),
    "gp": lambda: optuna.samplers.GPSampler(seed=0, n_startup_trials=5),
    "random": lambda: optuna.samplers.RandomSampler(seed=0),
    "qmc": lambda: optuna.samplers.QMCSampler(seed=0),
    "cmaes": lambda: optuna.samplers.CmaEsSampler(seed=0),
    "nsga2": lambda: optuna.samplers.NSGAIISampler(seed=0),
    "scaling": lambda: bsopt.ScalingSampler(seed=0),
}


def searched(
    sampler: BaseSampler, pruner: BasePruner, steps: str, *, direction: str = "minimize", trials: int = 8
) -> optuna.Study:
    """Run a study whose trials report at such steps, and go on where an earlier one was paused."""

    def objective(trial: optuna.Trial) -> float:
        size = trial.suggest_int("batch_size", 8, 256, log=True)
        lr = trial.suggest_float("lr", 1e-4, 1.0, log=True)
        end = 0.1 + 0.02 * np.log2(lr / 0.02) ** 2
        earlier = bsopt.continued(trial)
        done = -1 if earlier is None else max(earlier.intermediate_values)
        value = np.nan
        places = [int(step) for step in STEPS[steps](size, trial.number)]
        for i, step in enumerate(places, start=1):
            loss = end * (i / len(places)) ** -0.5
            value = float(loss if direction == "minimize" else 1.0 - min(loss, 1.0))
            if step <= done:
                continue
            trial.report(value, step)
            if (best := bsopt.conclude(trial)) is not None:
                return best
        return value

    study = optuna.create_study(direction=direction, sampler=sampler, pruner=pruner)
    study.optimize(objective, n_trials=trials, callbacks=[bsopt.continue_paused])
    return study


def check(study: optuna.Study, trials: int = 8) -> None:
    assert len(study.trials) == trials
    assert {t.state for t in study.trials} <= {TrialState.COMPLETE, TrialState.PRUNED}
    best = study.best_trial
    assert best.state == TrialState.COMPLETE
    assert np.isfinite(study.best_value)


@pytest.mark.parametrize("steps", STEPS)
def test_ours_go_together_at_any_steps(steps: str) -> None:
    check(searched(bsopt.ScalingSampler(seed=0), bsopt.PlateauPruner(), steps))


@pytest.mark.filterwarnings("ignore:WilcoxonPruner finds steps:UserWarning")  # of steps that differ, as they do here
@pytest.mark.slow
@pytest.mark.parametrize("direction", ["minimize", "maximize"])
@pytest.mark.parametrize("steps", STEPS)
@pytest.mark.parametrize("pruner", PRUNERS)
def test_every_pruner_runs_with_our_sampler(pruner: str, steps: str, direction: str) -> None:
    check(searched(bsopt.ScalingSampler(seed=0), PRUNERS[pruner](), steps, direction=direction))


@pytest.mark.slow
@pytest.mark.parametrize("direction", ["minimize", "maximize"])
@pytest.mark.parametrize("pausing", [False, True])
@pytest.mark.parametrize("steps", STEPS)
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_our_pruner_runs_with_every_sampler(sampler: str, steps: str, pausing: bool, direction: str) -> None:
    if sampler == "cmaes":
        pytest.importorskip("cmaes")
    pruner = PRUNERS["pausing" if pausing else "plateau"]()
    check(searched(SAMPLERS[sampler](), pruner, steps, direction=direction))


def test_updates_are_compared_at_equal_samples_and_epochs_at_equal_epochs() -> None:
    def model_of(unit: str, steps: str) -> Curves:
        pruner = bsopt.PlateauPruner(unit=unit, threshold=0.0, patience=1e9)
        study = searched(optuna.samplers.RandomSampler(seed=0), pruner, steps, trials=8)
        found = Curves.of(study, study.get_trials(deepcopy=False))
        assert found is not None
        return found

    assert model_of("updates", "updates").model.horizon == pytest.approx(SAMPLES * EPOCHS, rel=0.05)
    assert model_of("steps", "updates").model.per_batch  # found out
    assert not model_of("epochs", "epochs from 1").model.per_batch
    assert not model_of("samples", "updates").model.per_batch  # what was said counts
    assert model_of("epochs", "epochs from 0").model.horizon == EPOCHS
