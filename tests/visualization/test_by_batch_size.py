"""Best value and cost by batch size, and value against cost."""

from __future__ import annotations

from dataclasses import replace

import optuna
import pytest

from bsopt.testing.study import example_study
from bsopt.trial.objective import Objective
from bsopt.trial.record import StudyInfo, Tick, TrialRecord
from bsopt.visualization.best_by_batch_size import best_by_batch_size_info, plot_best_by_batch_size
from bsopt.visualization.convergence_cost import convergence_cost_info, plot_convergence_cost
from bsopt.visualization.pareto import pareto_info, plot_pareto
from bsopt.visualization.study_data import StudyData, load


def _trial(number: int, size: int, value: float, seconds: float, **more: object) -> TrialRecord:
    record = TrialRecord(
        number,
        "complete",
        batch_size=size,
        lr=0.1,
        value=value,
        best_tick=2,
        ticks=(Tick(1, 100, 10, 1.0, seconds / 2, value + 1), Tick(2, 200, 20, 2.0, seconds, value)),
        seconds_per_epoch=seconds / 2,
    )
    return replace(record, **more)  # type: ignore[arg-type]


def _data(*records: TrialRecord, direction: str = "minimize") -> StudyData:
    return StudyData(StudyInfo("made", objective=Objective(direction=direction)), records)  # type: ignore[arg-type]


def test_each_batch_size_has_its_best_completed_trial(study: optuna.Study) -> None:
    data = load(study)
    for row in best_by_batch_size_info(study).rows:
        values = [record.value for record in data.completed if record.batch_size == row.batch_size]
        assert row.best.value == min(value for value in values if value is not None)
        assert len(row.others) == len(values) - 1


def test_the_largest_is_the_best_when_maximising() -> None:
    info = best_by_batch_size_info(_data(_trial(0, 8, 0.7, 1), _trial(1, 8, 0.9, 1), direction="maximize"))
    assert info.rows[0].best.value == 0.9


def test_a_far_worse_trial_does_not_flatten_the_bests() -> None:
    figure = plot_best_by_batch_size(_data(_trial(0, 8, 0.3, 1), _trial(1, 16, 0.4, 1), _trial(2, 8, 90.0, 1)))
    assert figure.layout.yaxis.range[1] < 1


def test_a_batch_size_far_off_the_others_does_not_flatten_them() -> None:
    rows = [_trial(0, 8, 0.08, 1), _trial(1, 16, 0.1, 1), _trial(2, 2048, 11.0, 1), _trial(3, 8, 90.0, 1)]
    axis = plot_best_by_batch_size(_data(*rows)).layout.yaxis
    assert axis.type == "log"
    assert 10 ** axis.range[0] < 0.08 < 11.0 < 10 ** axis.range[1] < 90.0


def test_studies_are_compared_in_one_plot(study: optuna.Study) -> None:
    figure = plot_best_by_batch_size([study, example_study(20, name="other", seed=1)])
    assert [trace.name for trace in figure.data if trace.showlegend is not False] == ["example", "other"]


def test_costs_are_those_of_the_best_trial_with_the_range_of_its_near_equals() -> None:
    row = convergence_cost_info(
        _data(_trial(0, 8, 0.30, 10), _trial(1, 8, 0.301, 14), _trial(2, 8, 0.5, 99), _trial(3, 8, 0.6, 99))
    ).rows[0]
    assert (row.seconds_per_epoch, row.epochs, row.seconds) == (5, 2.0, 10)
    assert row.num_tuned == 2
    assert row.seconds_range == (10, 14)


def test_a_trial_still_at_its_best_when_its_budget_ended_is_marked_as_capped() -> None:
    data = _data(_trial(0, 8, 0.3, 10), replace(_trial(1, 16, 0.4, 10), best_tick=1))
    assert [row.is_capped for row in convergence_cost_info(data).rows] == [True, False]
    figure = plot_convergence_cost(data)
    assert list(figure.data[1].marker.symbol) == ["circle-open", "circle"]
    assert "still best" in figure.layout.legend.title.text


def test_none_on_the_front_is_beaten_and_all_others_are() -> None:
    points = pareto_info(load(example_study(60))).points
    for point in points:
        beaten = any(
            other.cost <= point.cost
            and other.value <= point.value
            and (other.cost, other.value) != (point.cost, point.value)
            for other in points
        )
        assert beaten != point.is_efficient


def test_costs_can_be_chosen_and_missing_ones_are_told(study: optuna.Study) -> None:
    assert pareto_info(study, cost="steps").points[0].cost >= 1
    assert not plot_pareto(study, cost="energy").data


def test_two_objectives_are_set_against_each_other() -> None:
    study = optuna.create_study(directions=["minimize", "maximize"], sampler=optuna.samplers.RandomSampler(0))

    def objective(trial: optuna.Trial) -> tuple[float, float]:
        x = trial.suggest_float("x", 0, 1)
        return x, x**2

    study.optimize(objective, n_trials=8)
    info = pareto_info(study)
    assert info.cost == "objective"
    assert all(point.is_efficient for point in info.points)
    assert info.points[0].cost == pytest.approx(max(point.cost for point in info.points))
