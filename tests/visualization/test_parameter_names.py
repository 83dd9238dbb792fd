"""Figures, report and answer of a study whose two parameters have other names."""

from __future__ import annotations

import math
from pathlib import Path

import optuna
import pytest

import bsopt
from bsopt.errors import ConfigError
from bsopt.visualization.figure import FIGURES
from bsopt.visualization.study_data import load
from bsopt.visualization.surface import believed_surface

DRAWN = ("interaction", "lr_slice", "best_by_batch_size")


def train(trial: optuna.Trial) -> float:
    size, rate = trial.suggest_int("samples", 8, 512, log=True), trial.suggest_float("speed", 1e-4, 1.0, log=True)
    end = (math.log2(rate) + 5.0) ** 2 + abs(math.log2(size / 64))
    for epoch in range(3):
        trial.report(end + 1.0 / (epoch + 1), epoch)
    return end


@pytest.fixture
def unnamed() -> optuna.Study:
    study = optuna.create_study(study_name="unnamed", sampler=optuna.samplers.RandomSampler(0))
    study.optimize(train, n_trials=6)
    return study


@pytest.mark.slow
@pytest.mark.parametrize("pruner", [None, optuna.pruners.HyperbandPruner(max_resource=3)], ids=["plain", "hyperband"])
def test_what_our_sampler_was_told_is_found_by_all_who_open_the_study(
    pruner: optuna.pruners.BasePruner | None, tmp_path: Path
) -> None:
    sampler, storage = bsopt.ScalingSampler(batch_size="samples", lr="speed", seed=0), f"sqlite:///{tmp_path}/s.db"
    optuna.create_study(study_name="s", sampler=sampler, pruner=pruner, storage=storage).optimize(train, n_trials=5)
    study = optuna.load_study(study_name="s", storage=storage)
    data = load(study)
    assert all(FIGURES[name](data).data for name in DRAWN)
    assert bsopt.recommend(study).choice is not None
    assert "Which parameter is" not in bsopt.write_report(study, tmp_path / "report.html").path.read_text()


def test_a_learning_rate_searched_from_zero_is_drawn() -> None:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(0))

    def objective(trial: optuna.Trial) -> float:
        size, rate = trial.suggest_int("batch_size", 8, 512, log=True), trial.suggest_float("lr", 0.0, 0.5)
        return (math.log2(rate + 1e-6) + 5.0) ** 2 + abs(math.log2(size / 64))

    study.optimize(objective, n_trials=7)
    data = load(study)
    surface = believed_surface(data)
    assert surface is not None
    assert 0 < surface.lrs[0] < surface.lrs[-1]
    assert all(FIGURES[name](data).data for name in DRAWN)


@pytest.mark.parametrize("name", DRAWN)
def test_names_may_be_given_to_a_figure(unnamed: optuna.Study, name: str) -> None:
    plot = getattr(bsopt.visualization, f"plot_{name}")
    assert plot(unnamed, batch_size="samples", lr="speed").data
    assert "samples and speed" in plot(unnamed).layout.annotations[0].text.replace("<br>", " ")


@pytest.mark.slow
def test_report_takes_names_and_says_which_there_are(unnamed: optuna.Study, tmp_path: Path) -> None:
    told = bsopt.write_report(unnamed, tmp_path / "a.html", batch_size="samples", lr="speed")
    assert told.answers[0].choice is not None
    untold = bsopt.write_report(unnamed, tmp_path / "b.html")
    assert "the study has samples and speed" in untold.answers[0].sentence


def test_a_name_that_no_trial_has_is_refused(unnamed: optuna.Study) -> None:
    with pytest.raises(ConfigError, match="Did you mean 'samples'"):
        bsopt.visualization.plot_interaction(unnamed, batch_size="sample")
