"""Figures give their space to the good trials, and say what lies outside."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from bsopt.trial.record import StopReason
from bsopt.visualization._axes import log_ticks
from bsopt.visualization.best_by_batch_size import plot_best_by_batch_size
from bsopt.visualization.interaction import plot_interaction
from bsopt.visualization.learning_curves import learning_curves_info
from bsopt.visualization.steps_to_target import plot_steps_to_target
from bsopt.visualization.study_data import StudyData

Make = Callable[..., StudyData]


def _said(figure: object) -> str:
    return str(figure.layout.legend.title.text).replace("<br>", " ")  # type: ignore[attr-defined]


def test_a_single_batch_size_fills_its_axis_with_its_trials(data_of: Make) -> None:
    rows = [(64, 0.01 * 1.5**i, 0.30 + 0.01 * i, StopReason.COMPLETED) for i in range(10)]
    low, high = plot_best_by_batch_size(data_of(*rows)).layout.yaxis.range
    assert 0.29 < low < 0.30
    assert 0.35 < high < 0.42


def test_a_figure_says_how_many_trials_lie_above_it(data_of: Make) -> None:
    rows = [(size, 0.01, 0.30 + size / 1e4, StopReason.COMPLETED) for size in (8, 16, 32)]
    figure = plot_best_by_batch_size(data_of(*rows, (16, 0.5, 2.0, StopReason.COMPLETED)))
    assert "1 worse trial above the frame." in _said(figure)


def test_curves_of_bad_trials_dont_flatten_the_best(data_of: Make) -> None:
    rows = [(64, 0.01, 0.3, StopReason.COMPLETED), (8, 0.01, 0.4, StopReason.COMPLETED)]
    bad = [(64, 0.1, 2.5, StopReason.COMPLETED), (8, 0.1, 2.5, StopReason.COMPLETED)]
    value_range = learning_curves_info(data_of(*rows, *bad)).value_range
    assert value_range is not None
    assert value_range[1] < 0.5


def test_one_batch_size_alone_has_no_updates_to_compare(data_of: Make) -> None:
    assert not plot_steps_to_target(data_of(*((64, 0.01, 0.3, StopReason.COMPLETED),) * 3)).data


def test_without_a_value_no_caption_speaks_of_values_or_rules(data_of: Make) -> None:
    said = _said(plot_interaction(data_of((8, 0.01, None, StopReason.FAILED), (64, 0.01, None, StopReason.FAILED))))
    assert said == "No trial has a value yet."


@pytest.mark.parametrize(("low", "high"), [(0.21, 0.43), (0.24, 0.37), (0.02, 0.09)])
def test_a_logarithmic_axis_has_at_least_two_ticks_in_sight(low: float, high: float) -> None:
    assert sum(low <= tick <= high for tick in log_ticks([low, high])) >= 2


def test_a_caption_takes_no_height_from_the_plot(data_of: Make) -> None:
    rows = [(8, 0.01 * 1.5**i, 0.3 + 0.01 * i, StopReason.COMPLETED) for i in range(3)]
    short = plot_interaction(data_of(*rows))
    long = plot_interaction(data_of(*rows, *rows))  # two seeds each: one sentence more
    assert long.layout.height > short.layout.height
