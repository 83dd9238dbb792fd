from __future__ import annotations

import math
from collections.abc import Callable

import optuna
import pytest

from bsopt.trial.record import StopReason
from bsopt.visualization.lr_slice import MAX_LINES, lr_slice_info, plot_lr_slice
from bsopt.visualization.study_data import StudyData

Make = Callable[..., StudyData]


def test_one_line_per_batch_size_with_rising_learning_rates(study: optuna.Study) -> None:
    info = lr_slice_info(study)
    assert [item.batch_size for item in info.slices] == [8, 16, 32, 64, 128, 256, 512, 1024]
    for item in info.slices:
        rates = [record.lr for record in item.records]
        assert rates == sorted(r for r in rates if r is not None)


def test_pruned_trials_are_points_off_the_line(data_of: Make) -> None:
    data = data_of(
        (32, 0.01, 0.3, StopReason.COMPLETED),
        (32, 0.02, 0.9, StopReason.PRUNED_HOPELESS),
        (32, 0.04, 0.35, StopReason.CONVERGED),
    )
    line, _, points = plot_lr_slice(data).data
    assert list(line.x) == [0.01, 0.04]
    assert list(points.x) == [0.02]
    assert points.mode == "markers"
    assert points.marker.symbol == "triangle-down-open"


def test_a_diverged_learning_rate_is_a_cross_on_the_bad_edge(data_of: Make) -> None:
    rows = [(32, 0.01 * 2**i, 0.3 + 0.1 * i, StopReason.COMPLETED) for i in range(3)]
    figure = plot_lr_slice(data_of(*rows, (32, 0.9, 5.0, StopReason.DIVERGED)))
    cross = figure.data[-1]
    assert cross.marker.symbol == "x-thin"
    assert cross.y[0] == pytest.approx(figure.layout.yaxis.range[1])


@pytest.mark.slow
def test_very_many_batch_sizes_are_points_coloured_by_it(large_study: StudyData) -> None:
    assert len(lr_slice_info(large_study).slices) > MAX_LINES
    complete, pruned = plot_lr_slice(large_study).data
    assert {complete.mode, pruned.mode} == {"markers"}
    assert len(complete.x) + len(pruned.x) > 2000
    assert "512" in complete.marker.colorbar.ticktext


def test_a_line_runs_through_the_median_of_several_seeds(data_of: Make) -> None:
    values = {0.01: (0.3, 0.5, 0.4), 0.1: (0.6, 0.7)}
    data = data_of(*((32, lr, value, StopReason.COMPLETED) for lr, found in values.items() for value in found))
    line, points = plot_lr_slice(data).data
    assert (line.x, line.y) == ((0.01, 0.1), (0.4, 0.65))
    assert len(points.x) == 5


def test_values_decades_apart_get_a_logarithmic_axis(data_of: Make) -> None:
    rows = [(32, 0.01 * 2**i, 0.03 * 4**i, StopReason.COMPLETED) for i in range(4)]
    axis = plot_lr_slice(data_of(*rows)).layout.yaxis
    assert axis.type == "log"
    low, high = (10**edge for edge in axis.range)
    assert 0.02 < low < 0.03
    assert 1.92 < high < 3.0
    assert plot_lr_slice(data_of(*rows[:2])).layout.yaxis.type is None


def test_a_diverged_cross_lies_on_the_edge_of_a_logarithmic_axis(data_of: Make) -> None:
    rows = [(32, 0.01 * 2**i, 0.03 * 4**i, StopReason.COMPLETED) for i in range(4)]
    figure = plot_lr_slice(data_of(*rows, (32, 0.9, 5.0, StopReason.DIVERGED)))
    assert math.log10(figure.data[-1].y[0]) == pytest.approx(figure.layout.yaxis.range[1])


def test_a_line_doesnt_zigzag_through_learning_rates_that_hardly_differ(data_of: Make) -> None:
    rates = (0.01, 0.0102, 0.0104, 0.0106, 0.03)
    rows = [(32, lr, value, StopReason.COMPLETED) for lr, value in zip(rates, (0.3, 0.4, 0.31, 0.39, 0.5), strict=True)]
    figure = plot_lr_slice(data_of(*rows))
    line, points = figure.data
    assert list(line.x) == pytest.approx([0.0103, 0.03])
    assert list(line.y) == pytest.approx([0.35, 0.5])
    assert len(points.x) == 5
    assert "within a factor of 1.25" in figure.layout.legend.title.text.replace("<br>", " ")


def test_no_caption_speaks_of_medians_where_each_learning_rate_ran_once(data_of: Make) -> None:
    rows = [(32, 0.01 * 2**i, 0.3 + 0.1 * i, StopReason.COMPLETED) for i in range(3)]
    assert plot_lr_slice(data_of(*rows)).layout.legend.title.text is None


def test_a_diverged_cross_is_not_beyond_the_edge(data_of: Make) -> None:
    for worst in (0.4321987, 0.512345678, 0.777777777):
        rows = [(32, 0.01, 0.3, StopReason.COMPLETED), (32, 0.02, worst, StopReason.COMPLETED)]
        figure = plot_lr_slice(data_of(*rows, (32, 0.9, 5.0, StopReason.DIVERGED)))
        assert figure.data[-1].y[0] <= figure.layout.yaxis.range[1]
