"""The kinds of studies that every figure must look well for, made up."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from datetime import datetime, timedelta
from functools import cache

import numpy as np
import optuna
import plotly.graph_objects as go
from optuna.distributions import FloatDistribution, IntDistribution
from optuna.trial import TrialState, create_trial

from bsopt.testing.experiment import example_experiment
from bsopt.testing.study import example_data, example_study
from bsopt.visualization.figure import EXPERIMENT_FIGURES, FIGURES
from bsopt.visualization.study_data import StudyData, load

__all__ = ["KINDS", "figures_of", "kind"]

SPACE = {"batch_size": IntDistribution(8, 1024, log=True), "lr": FloatDistribution(1e-4, 1.0, log=True)}


def plain(num_trials: int, *, direction: str = "minimize") -> optuna.Study:
    """A study of plain Optuna, with a batch size of any number and reports by epoch."""
    rng = np.random.default_rng(0)
    study = optuna.create_study(study_name="plain", direction=direction, sampler=optuna.samplers.RandomSampler(0))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        study.set_metric_names(["val_acc" if direction == "maximize" else "val_loss"])
    for number in range(num_trials):
        size, lr = round(2 ** rng.uniform(3, 10)), float(10 ** rng.uniform(-4, 0))
        octaves = math.log2(lr / 0.01) - 0.8 * math.log2(size / 32)
        loss = 0.3 + 0.02 * octaves**2 + 0.01 * max(0.0, math.log2(size / 64)) + float(rng.normal(0, 0.004))
        end = float(np.clip(1.0 - 0.25 * loss, 0.1, 1.0)) if direction == "maximize" else loss
        worst = 0.1 if direction == "maximize" else 2.3
        is_pruned = number % 6 == 5
        reports = {epoch: end + (worst - end) / (1 + epoch) ** 2 for epoch in range(1, 4 if is_pruned else 11)}
        trial = create_trial(
            params={"batch_size": size, "lr": lr},
            distributions=SPACE,
            intermediate_values=reports,
            value=reports[max(reports)],
            state=TrialState.PRUNED if is_pruned else TrialState.COMPLETE,
        )
        trial.datetime_start = datetime(2026, 1, 1)
        trial.datetime_complete = trial.datetime_start + timedelta(seconds=len(reports) * (1.0 + 400.0 / size))
        study.add_trial(trial)
    return study


def failures() -> optuna.Study:
    """A study of which no trial has a value."""
    study = optuna.create_study(study_name="failures", sampler=optuna.samplers.RandomSampler(0))
    for size in (8, 64, 512):
        params = {"batch_size": size, "lr": 0.01}
        study.add_trial(create_trial(params=params, distributions=SPACE, state=TrialState.FAIL))
    return study


KINDS: dict[str, Callable[[], StudyData]] = {
    "digits": lambda: example_data(60, name="digits", devices=(1, 2, 4)),
    "plain": lambda: load(plain(300)),
    "accuracy": lambda: load(plain(40, direction="maximize")),
    "three": lambda: load(example_study(3, name="three")),
    "failures": lambda: load(failures()),
    "experiment": lambda: load(example_experiment()),
    "one size": lambda: example_data(30, name="one size", batch_sizes=(64,)),
}


@cache
def kind(name: str) -> StudyData:
    """Return a study of a kind, read and fitted once."""
    return KINDS[name]()


def figures_of(data: StudyData) -> dict[str, go.Figure]:
    """Return every figure that has something to show for a study."""
    figures = {**FIGURES, **(EXPERIMENT_FIGURES if data.experiment is not None else {})}
    drawn = {name: figure(data) for name, figure in figures.items()}
    return {name: figure for name, figure in drawn.items() if figure.data}
