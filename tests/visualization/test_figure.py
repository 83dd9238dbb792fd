"""What holds for every figure."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import optuna
import plotly.graph_objects as go
import pytest

import bsopt.visualization
from bsopt.testing.study import example_study
from bsopt.visualization import EXPERIMENT_FIGURES, FIGURES
from bsopt.visualization._theme import TEMPLATES
from bsopt.visualization.study_data import StudyData, load

Plot = Callable[..., go.Figure]
every_figure = pytest.mark.parametrize("name", list(FIGURES))
of_one_device = pytest.mark.parametrize("name", [name for name in FIGURES if name != "devices"])


@pytest.fixture(scope="module")
def data(study: optuna.Study) -> StudyData:
    """The study read once, so that its laws are fitted once for all figures."""
    return load(study)


@pytest.fixture(scope="module")
def again(study: optuna.Study) -> StudyData:
    """The same study, read and fitted a second time."""
    return load(study)


@pytest.fixture(scope="module")
def other() -> StudyData:
    return load(example_study(12, name="other", seed=3))


def _plot(name: str, study: object) -> go.Figure:
    return FIGURES[name](study)


@every_figure
def test_an_empty_study_is_told_in_a_sentence(name: str, empty_study: optuna.Study) -> None:
    figure = _plot(name, empty_study)
    assert not figure.data
    (note,) = figure.layout.annotations
    assert note.text.endswith(".")
    assert len(note.text) > 30


@every_figure
@pytest.mark.parametrize("num_trials", [1, 3])
def test_a_few_trials_are_drawn_or_told(name: str, num_trials: int) -> None:
    figure = _plot(name, example_study(num_trials))
    assert figure.data or figure.layout.annotations


@pytest.mark.slow
@every_figure
def test_three_thousand_trials_stay_under_two_megabytes(name: str, large_study: StudyData) -> None:
    assert len(_plot(name, large_study).to_json()) < 2e6


@of_one_device
def test_a_figure_has_a_title_and_axes_with_titles(name: str, data: StudyData) -> None:
    figure = _plot(name, data)
    assert figure.data, "the example study should show every figure"
    assert figure.layout.title.text
    for axis in [*figure.select_xaxes(), *figure.select_yaxes()]:
        assert axis.title.text or axis.visible is False or axis.matches or axis.showticklabels is False
    assert figure.layout.template == TEMPLATES["bsopt"]


@of_one_device
def test_a_list_of_studies_is_taken(name: str, data: StudyData, other: StudyData) -> None:
    assert _plot(name, [data, other]).data


@pytest.mark.slow
@every_figure
def test_foreign_text_stays_text(name: str, foreign_study: optuna.Study) -> None:
    text = _strings(_plot(name, [foreign_study, foreign_study]).to_plotly_json())
    text += _strings(_plot(name, foreign_study).to_plotly_json())
    assert not [string for string in text if "<b>foreign" in string or "<i>relu" in string]


@pytest.mark.slow
@every_figure
def test_drawing_twice_gives_the_same(name: str, data: StudyData, again: StudyData) -> None:
    assert _plot(name, data).to_json() == _plot(name, again).to_json()


def test_every_figure_has_a_heading_and_a_way_to_read_it() -> None:
    figures = [*FIGURES.items(), *EXPERIMENT_FIGURES.items()]
    assert len({name for name, _ in figures}) == len(figures)
    for name, figure in figures:
        assert figure.name == name
        assert figure.heading[0].isupper()
        assert figure.how_to_read.endswith((".", "?"))


def test_public_names_resolve_and_importing_the_package_stays_light() -> None:
    for name in bsopt.visualization.__all__:
        assert getattr(bsopt.visualization, name) is not None
    code = "import sys, bsopt.visualization; sys.exit('plotly' in sys.modules or 'torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def _strings(value: Any) -> list[str]:
    if isinstance(value, dict):
        return [string for item in value.values() for string in _strings(item)]
    if isinstance(value, (list, tuple)):
        return [string for item in value for string in _strings(item)]
    return [value] if isinstance(value, str) else []
