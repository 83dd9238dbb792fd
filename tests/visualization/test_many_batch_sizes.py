"""A study whose batch sizes are all different, as samplers without a lattice propose them."""

from __future__ import annotations

import optuna
import pytest

from bsopt.visualization.figure import FIGURES
from bsopt.visualization.pareto import plot_pareto
from bsopt.visualization.study_data import StudyData, load


@pytest.fixture(scope="module")
def data() -> StudyData:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(0))
    for trial in (study.ask() for _ in range(90)):
        size, rate = trial.suggest_int("batch_size", 8, 4096), trial.suggest_float("lr", 1e-4, 1.0, log=True)
        trial.report(2.0 + rate, 1)
        trial.report(1.0 + rate + size / 1e4, 2)
        study.tell(trial, 1.0 + rate + size / 1e4)
    return load(study)


@pytest.mark.parametrize("name", ["lr_slice", "best_by_batch_size", "learning_curves", "pareto"])
def test_a_figure_has_few_traces_all_the_same(data: StudyData, name: str) -> None:
    assert 0 < len(FIGURES[name](data).data) <= 60


def test_what_nobody_says_the_unit_of_is_told_in_no_unit(data: StudyData) -> None:
    assert not FIGURES["steps_to_target"](data).data
    curves = FIGURES["learning_curves"](data)
    assert curves.layout.xaxis.title.text == "step that was reported"
    assert not curves.layout.updatemenus
    assert plot_pareto(data).layout.xaxis.title.text == "time of the trial [s]"


def test_the_colour_is_the_batch_size_where_a_legend_would_not_hold_them(data: StudyData) -> None:
    _, points = plot_pareto(data).data
    assert len(points.x) == 90
    assert len(set(points.marker.color)) > 80
    assert {"128", "2048"} <= set(points.marker.colorbar.ticktext)
