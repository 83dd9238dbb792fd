from __future__ import annotations

import math
from dataclasses import replace

import optuna
import pytest

from bsopt.trial.record import StudyInfo, Tick, TrialRecord
from bsopt.visualization.learning_curves import MAX_CURVES, MAX_POINTS, learning_curves_info, plot_learning_curves
from bsopt.visualization.study_data import Status, StudyData, load


def test_the_best_trial_of_each_batch_size_stands_out(study: optuna.Study) -> None:
    info = learning_curves_info(study)
    bests = [curve for curve in info.curves if curve.is_best_of_batch_size]
    data = load(study)
    for curve in bests:
        rivals = [r.value for r in data.completed if r.batch_size == curve.record.batch_size]
        assert curve.record.value == min(v for v in rivals if v is not None)
    assert {c.record.batch_size for c in bests} == {r.batch_size for r in data.completed}


@pytest.mark.slow
def test_thousands_of_trials_are_thinned_and_the_best_stays(large_study: StudyData) -> None:
    info = learning_curves_info(large_study)
    best = load(large_study).best
    assert best is not None
    assert len(info.curves) <= MAX_CURVES
    assert best.number in [curve.record.number for curve in info.curves]
    assert info.num_left_out > 2000


def test_a_long_curve_keeps_its_ends() -> None:
    ticks = tuple(Tick(i, float(i), i, float(i), float(i), 1.0 / i) for i in range(1, 5001))
    record = TrialRecord(0, "complete", batch_size=8, lr=0.1, value=1 / 5000, best_tick=5000, ticks=ticks)
    (curve,) = learning_curves_info(StudyData(StudyInfo("long"), (record,))).curves
    assert len(curve.ticks) <= MAX_POINTS
    assert (curve.ticks[0].index, curve.ticks[-1].index) == (1, 5000)


def test_a_diverged_trial_does_not_flatten_the_others(study: optuna.Study) -> None:
    info = learning_curves_info(study)
    assert any(curve.status is Status.DIVERGED for curve in info.curves)
    assert info.value_range is not None
    assert info.value_range[1] < 2.5


@pytest.mark.parametrize(
    ("axis", "title"),
    [
        ("samples", "samples seen"),
        ("step", "optimizer updates"),
        ("epoch", "epochs"),
        ("seconds", "training time [s]"),
    ],
)
def test_all_four_axes_can_be_opened_with(study: optuna.Study, axis: str, title: str) -> None:
    figure = plot_learning_curves(study, axis=axis)  # type: ignore[arg-type]
    assert figure.layout.xaxis.title.text == title
    (menu,) = figure.layout.updatemenus
    assert len(menu.buttons) == 4
    assert len(menu.buttons[0].args[0]["x"]) == len(figure.data)


def test_a_foreign_study_has_the_one_axis_that_it_reports_by(foreign_study: optuna.Study) -> None:
    figure = plot_learning_curves(foreign_study)
    assert not figure.layout.updatemenus
    assert figure.layout.xaxis.title.text == "step that was reported"


def test_gaps_in_a_curve_are_gaps_in_the_line(study: optuna.Study) -> None:
    figure = plot_learning_curves(study)
    values = [value for trace in figure.data for value in trace.y]
    assert None in values
    assert all(value is None or math.isfinite(value) for value in values)


def test_curves_that_fall_by_decades_get_a_logarithmic_axis(study: optuna.Study) -> None:
    assert plot_learning_curves(study).layout.yaxis.type is None  # from 2.3 to 0.3
    data = load(study)
    deep = [
        replace(r, ticks=tuple(replace(tick, value=(tick.value - 0.29) ** 2) for tick in r.ticks)) for r in data.records
    ]
    found = StudyData(data.info, tuple(deep))
    axis = plot_learning_curves(found).layout.yaxis
    info = learning_curves_info(found)
    assert info.is_log
    assert axis.type == "log"
    assert info.value_range is not None
    assert [10**edge for edge in axis.range] == pytest.approx(list(info.value_range))
