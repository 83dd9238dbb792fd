"""Figures of what training did to the weights."""

from __future__ import annotations

import math

import optuna
import pytest

from bsopt.analysis.interpolation import Interpolation
from bsopt.analysis.landscape import Landscape2D
from bsopt.analysis.sharpness import Sharpness
from bsopt.laws.update_norms import UpdateNormSummary
from bsopt.laws.weight_distance import WeightDistances
from bsopt.serialization import to_plain
from bsopt.trial.record import StudyInfo, Tick, TrialRecord
from bsopt.visualization import plot_interpolation, plot_landscape, plot_sharpness
from bsopt.visualization.study_data import StudyData, load
from bsopt.visualization.update_norms import plot_update_norms, update_norms_info
from bsopt.visualization.weight_distance import plot_weight_distance, weight_distance_info


def _measured(size: int, name: str, value: object) -> TrialRecord:
    ticks = (Tick(1, 100, 10, 1.0, 1.0, 0.5),)
    return TrialRecord(
        0, "complete", batch_size=size, lr=0.1, value=0.5, best_tick=1, ticks=ticks, measurements={name: value}
    )


def test_what_the_callback_stores_is_what_the_distance_figure_reads() -> None:
    stored = to_plain(WeightDistances(5.0, {"features": 3.0, "head": 4.0}, (10, 20), (2.0, 5.0), (2.0, 4.0)))
    data = StudyData(StudyInfo("made"), (_measured(32, "WeightDistance", stored),))
    (row,) = weight_distance_info(data).rows
    assert (row.total, row.per_layer["head"], row.epochs) == (5.0, 4.0, (2.0, 4.0))
    assert "head: 4<br>features: 3" in plot_weight_distance(data).data[0].text[0]


def test_what_the_callback_stores_is_what_the_norm_figure_reads() -> None:
    summary = to_plain(UpdateNormSummary(10, 10, 2.0, 1.0, 4.0, {0.5: 2.0}, (1.0, 2.0, 4.0), (4, 6)))
    data = StudyData(StudyInfo("made"), (_measured(32, "UpdateNorms", summary),))
    (item,) = update_norms_info(data).histograms
    assert (item.median, item.shares) == (2.0, (0.4, 0.6))
    (line,) = plot_update_norms(data).data
    assert 1.0 < line.x[0] < line.x[-1] < 4.0
    assert sum(line.y) == pytest.approx(100, rel=1e-4)
    assert sum(y for x, y in zip(line.x, line.y, strict=True) if x < 2) == pytest.approx(40, rel=1e-4)


def test_each_batch_size_is_its_best_trial(study: optuna.Study) -> None:
    best = {}
    data = load(study)
    for record in sorted(data.completed, key=lambda r: r.value or 0.0):
        best.setdefault(record.batch_size, record.number)
    assert {row.record.batch_size: row.record.number for row in weight_distance_info(study).rows} == best
    assert {item.record.batch_size: item.record.number for item in update_norms_info(study).histograms} == best


def test_the_line_between_minimizers_names_both_ends_and_escapes_them() -> None:
    result = Interpolation((-1.0, 0.0, 1.0, 2.0), (9.0, 0.1, 0.2, math.inf), (9.0, 0.3, 0.4, 8.0), "interpolate", 8, 8)
    figure = plot_interpolation(result, first="batch size 32", second="<b>256</b>")
    assert [trace.name for trace in figure.data] == ["training loss", "validation loss"]
    assert figure.data[0].y[-1] is None
    assert [note.text for note in figure.layout.annotations] == ["batch size 32", "&lt;b&gt;256&lt;/b&gt;"]


def test_losses_over_decades_are_drawn_on_a_log_axis() -> None:
    def axis(top: float) -> str | None:
        losses = (top, 0.1, 0.2, top)
        figure = plot_interpolation(Interpolation((-1.0, 0.0, 1.0, 2.0), losses, None, "interpolate", 8, 0))
        return str(figure.layout.yaxis.type) if figure.layout.yaxis.type else None

    assert (axis(1.0), axis(100.0)) == (None, "log")


def test_landscapes_share_their_levels() -> None:
    grid = (-1.0, 0.0, 1.0)
    flat = Landscape2D(grid, grid, ((2.0, 1.0, 2.0),) * 3, 1.0, 8, 0)
    steep = Landscape2D(grid, grid, ((90.0, 1.0, math.inf),) * 3, 1.0, 8, 0)
    figure = plot_landscape({"32": flat, "256": steep})
    first, second = (trace for trace in figure.data if trace.type == "contour")
    assert first.contours == second.contours
    assert max(max(row) for row in second.z) == pytest.approx(math.log10(90), abs=1e-3)
    assert plot_landscape(flat).data
    assert not plot_landscape({}).data


def test_sharpness_stands_by_batch_size_and_arm() -> None:
    def sharp(value: float) -> Sharpness:
        return Sharpness(value, (value / 2, value), 0.1, 0.2, 1e-3, None, 10, 8, 100, 0)

    figure = plot_sharpness({"one rate": {256: sharp(7.0), 32: sharp(1.0)}, "scaled": {32: sharp(1.1)}})
    assert [trace.name for trace in figure.data] == ["one rate", "scaled"]
    assert list(figure.data[0].x) == [32, 256]
    assert list(figure.data[0].error_y.arrayminus) == [0.5, 3.5]
    assert len(plot_sharpness({32: sharp(1.0)}).data) == 1
    assert not plot_sharpness({}).data
