"""The answer as a picture shows the recommendation's numbers and no others."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import optuna
import plotly.graph_objects as go
import pytest

from bsopt.laws.estimate import Estimate
from bsopt.recommendation.result import SizeState
from bsopt.testing.study import example_data
from bsopt.trial.record import StopReason
from bsopt.visualization.answer import _bands, _values_seen, answer_info, plot_answer
from bsopt.visualization.study_data import StudyData

Make = Callable[..., StudyData]


@pytest.fixture(scope="module")
def data() -> StudyData:
    return example_data(40, devices=(1, 2))


def _of(figure: go.Figure, name: str) -> tuple[go.Scatter, ...]:
    return tuple(trace for trace in figure.data if trace.name == name)


def test_the_star_is_the_recommendation_in_both_plots(data: StudyData) -> None:
    choice = data.recommendation.choice
    assert choice is not None
    assert choice.value is not None
    above, below = _of(plot_answer(data), "recommended")[:2]
    assert (above.x, below.x) == ((choice.batch_size,), (choice.batch_size,))
    assert above.y == (pytest.approx(choice.value.value, rel=1e-4),)
    assert below.y == (pytest.approx(choice.lr.value, rel=1e-4),)


def test_every_batch_size_is_marked_by_what_is_known_of_it(data: StudyData) -> None:
    figure, found = plot_answer(data), data.recommendation
    assert found.choice is not None
    others = [size for size in found.sizes if size.batch_size != found.choice.batch_size]  # that one has the star
    for state in {size.state for size in others}:
        above, below = _of(figure, state.words)
        sizes = [size for size in others if size.state is state]
        assert above.x == below.x == tuple(size.batch_size for size in sizes)
        assert above.y == tuple(pytest.approx(size.value.value, rel=1e-4) for size in sizes if size.value)
        assert below.y == tuple(pytest.approx(size.lr.value, rel=1e-4) for size in sizes if size.lr)


def test_what_is_told_of_the_chosen_size_is_what_the_choice_tells(data: StudyData) -> None:
    found = data.recommendation
    assert found.choice is not None
    (own,) = (size for size in found.sizes if size.batch_size == found.choice.batch_size)
    assert (own.lr, own.value) == (found.choice.lr, found.choice.value)
    assert found.choice.cost in own.costs


def test_bands_are_hatched_where_no_trial_ran_to_its_end(data_of: Make) -> None:
    rows = [
        (size, lr, 0.3 + 0.05 * abs(lr - 0.001 * size) / lr, StopReason.COMPLETED)
        for size in (16, 32, 128)
        for lr in (0.01, 0.03, 0.09)
    ]
    figure = plot_answer(data_of(*rows, (64, 0.05, 0.32, StopReason.PRUNED_PLATEAU)))
    bands = [trace for trace in figure.data if trace.fill == "toself" and trace.yaxis == "y"]
    assert {trace.fillpattern.shape for trace in bands} == {None, "/"}
    (hatched,) = (trace for trace in bands if trace.fillpattern.shape)
    assert set(hatched.x) == {32, 64, 128}
    assert "Hatched" in figure.layout.legend.title.text


def test_a_menu_changes_the_upper_plot_to_times(data: StudyData) -> None:
    figure = plot_answer(data)
    (menu,) = figure.layout.updatemenus
    assert [button.label for button in menu.buttons] == ["val_loss", "time on 1 device"]
    shown = menu.buttons[1].args[0]["visible"]
    above = [trace for trace, is_shown in zip(figure.data, shown, strict=True) if is_shown and trace.yaxis == "y"]
    assert [trace.name for trace in above] == ["time on 1 device (90 %)", "recommended"]
    assert "time over the budget" in menu.buttons[1].args[1]["yaxis.title.text"]
    costs = {size.batch_size: size.costs[0].seconds.value for size in data.recommendation.sizes if size.costs}
    assert set(above[0].x) == set(costs)


def test_too_few_trials_have_points_and_a_sentence_but_no_band(data_of: Make) -> None:
    figure = plot_answer(data_of((16, 0.01, 0.31, StopReason.COMPLETED), (32, 0.01, 0.3, StopReason.COMPLETED)))
    assert not [trace for trace in figure.data if trace.fill]
    assert _of(figure, "recommended")[0].x == (32,)
    assert "needs at least 5 trials" in figure.layout.legend.title.text
    assert not figure.layout.updatemenus


def test_the_best_lies_above_when_maximising(data_of: Make) -> None:
    rows = [(size, lr, 0.9 - lr, StopReason.COMPLETED) for size in (16, 64) for lr in (0.1, 0.2, 0.4)]
    info = answer_info(data_of(*rows, direction="maximize"))
    assert info.found.choice is not None
    assert info.found.choice.value is not None
    assert info.found.choice.value.value > 0.7
    assert any(size.state is SizeState.TESTED for size in info.found.sizes)


def test_without_a_value_the_recommendation_says_why(empty_study: optuna.Study) -> None:
    figure = plot_answer(empty_study)
    assert not figure.data
    assert "No trial has run" in figure.layout.annotations[0].text


def test_several_studies_stand_side_by_side(data: StudyData, foreign_study: optuna.Study) -> None:
    figure = plot_answer([data, foreign_study])
    assert {trace.xaxis for trace in figure.data} == {"x", "x2", "x3", "x4"}
    assert not figure.layout.updatemenus


def test_an_interval_from_zero_on_can_be_drawn_and_the_recommended_one_is_seen(data: StudyData) -> None:
    info = answer_info(data)
    choice = info.found.choice
    assert choice is not None
    values = {size.batch_size: 0.02 * 3.0**place for place, size in enumerate(info.found.sizes)}
    sizes = [
        replace(size, value=Estimate(v, 0.0, 1.1 * v))
        for size, v in zip(info.found.sizes, values.values(), strict=True)
    ]
    value = values[choice.batch_size]
    star = replace(choice, value=Estimate(value, value / 3.0, 1.1 * value))
    wide = replace(info, found=replace(info.found, sizes=tuple(sizes), choice=star))
    assert min(_values_seen(wide)) <= value / 3.0
    assert all(y > 0 for band in _bands(wide, "value") for y in band.y)
