"""Figures give their space to the good trials, and say what lies outside."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from bsopt.trial.objective import Objective
from bsopt.trial.record import StopReason
from bsopt.visualization._axes import LABEL_WIDTH, log_axis, log_ticks
from bsopt.visualization._size_colours import SizeColours
from bsopt.visualization.best_by_batch_size import plot_best_by_batch_size
from bsopt.visualization.interaction import plot_interaction
from bsopt.visualization.learning_curves import learning_curves_info, plot_learning_curves
from bsopt.visualization.lr_slice import plot_lr_slice
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


def test_values_far_from_zero_are_told_apart(data_of: Make) -> None:
    rows = [(size, 0.01, 1e6 + 0.25 * place, StopReason.COMPLETED) for place, size in enumerate((8, 16, 32))]
    bests = plot_best_by_batch_size(data_of(*rows)).data[-1]
    assert list(bests.y) == [1e6, 1e6 + 0.25, 1e6 + 0.5]


def test_values_are_written_in_numbers_that_the_text_has_too(data_of: Make) -> None:
    axis = plot_best_by_batch_size(data_of((8, 0.01, 3e-10, StopReason.COMPLETED))).layout.template.layout.yaxis
    assert (axis.exponentformat, axis.separatethousands) == ("e", True)  # neither 300p nor 1.000031M


def test_a_long_name_of_a_metric_is_broken_into_lines(data_of: Make) -> None:
    data = data_of((8, 0.01, 0.3, StopReason.COMPLETED))
    objective = Objective("validation/macro_averaged_f1_score_of_the_minority_classes")
    data = replace(data, info=replace(data.info, objective=objective))
    for plot in (plot_best_by_batch_size, plot_learning_curves):
        lines = plot(data).layout.yaxis.title.text.split("<br>")
        assert max(map(len, lines)) <= LABEL_WIDTH
        assert "".join(lines).startswith(objective.monitor)


def test_a_batch_size_of_a_million_is_written_out(data_of: Make) -> None:
    sizes = [2**k for k in range(17, 22)]
    figure = plot_best_by_batch_size(data_of(*((size, 0.01, 0.3, StopReason.COMPLETED) for size in sizes)))
    assert list(figure.layout.xaxis.ticktext) == [str(size) for size in sizes]
    assert SizeColours(2**17, 2**21).marker(sizes)["colorbar"]["ticktext"] == [str(size) for size in sizes]


def test_a_slice_says_how_many_trials_lie_above_it(data_of: Make) -> None:
    rows = [(size, rate, 0.30 + rate, StopReason.COMPLETED) for size in (8, 16) for rate in (0.01, 0.02, 0.03)]
    assert "1 worse trial above the frame." in _said(plot_lr_slice(data_of(*rows, (4, 0.5, 2.0, StopReason.COMPLETED))))


def test_a_slice_speaks_of_lines_only_where_it_has_some(data_of: Make) -> None:
    few, many = (
        plot_lr_slice(data_of(*((8, 0.01 * 1.01**i, 0.3, StopReason.COMPLETED) for i in range(num)))) for num in (9, 99)
    )
    assert "medians" in _said(few)
    assert "medians" not in _said(many)


@pytest.mark.parametrize(("low", "high"), [(10.0, 10.5), (1e6, 1e6 + 3.0), (0.3, 0.3001)])
def test_a_narrow_logarithmic_axis_has_ticks_that_differ(low: float, high: float) -> None:
    axis = log_axis([low, high])
    assert sum(low <= tick <= high for tick in axis["tickvals"]) >= 2
    assert len(set(axis["ticktext"])) == len(axis["ticktext"])


def test_ticks_around_a_single_value_reach_to_both_sides() -> None:
    ticks = log_ticks([0.0012])
    assert ticks[0] <= 0.00012
    assert ticks[-1] >= 0.012
