"""Studies to draw: made up from known laws, foreign, and empty."""

from __future__ import annotations

import math
from collections.abc import Callable

import optuna
import pytest

from bsopt.testing.study import example_data, example_study
from bsopt.trial.objective import Objective
from bsopt.trial.record import StopReason, StudyInfo, Tick, TrialRecord
from bsopt.visualization.study_data import StudyData

optuna.logging.set_verbosity(optuna.logging.WARNING)


@pytest.fixture(scope="session")
def study() -> optuna.Study:
    return example_study(40)


@pytest.fixture(scope="session")
def large_study() -> StudyData:
    return example_data(3000, ticks=60, batch_sizes=tuple(range(8, 1025, 8)))


@pytest.fixture
def empty_study() -> optuna.Study:
    return optuna.create_study(study_name="empty")


@pytest.fixture
def foreign_study() -> optuna.Study:
    """A study that isn't ours, maximised, with other parameters and reports."""
    study = optuna.create_study(
        study_name="<b>foreign</b>", direction="maximize", sampler=optuna.samplers.RandomSampler(0)
    )

    def objective(trial: optuna.Trial) -> float:
        size = trial.suggest_categorical("batch_size", [16, 64])
        lr = trial.suggest_float("lr", 1e-3, 1e-1, log=True)
        trial.suggest_categorical("activation", ["<i>relu</i>", "tanh"])
        for step in range(1, 5):
            trial.report(step * lr, step)
        return 4 * lr - size / 1000

    study.optimize(objective, n_trials=6)
    return study


@pytest.fixture
def data_of() -> Callable[..., StudyData]:
    """Make data from (batch size, lr, value, stop reason) rows."""

    def make(*rows: tuple[int, float, float | None, StopReason], direction: str = "minimize") -> StudyData:
        records = tuple(
            TrialRecord(
                number=number,
                outcome=reason.outcome,
                batch_size=size,
                lr=lr,
                params={"batch_size": size, "lr": lr},
                stop_reason=reason,
                value=value,
                best_tick=1 if value is not None else None,
                ticks=(Tick(1, 100.0, 10, 1.0, 2.0, value),) if value is not None and math.isfinite(value) else (),
            )
            for number, (size, lr, value, reason) in enumerate(rows)
        )
        return StudyData(StudyInfo("made", objective=Objective("loss", direction)), records)  # type: ignore[arg-type]

    return make
