from __future__ import annotations

from collections.abc import Callable

import optuna
import pytest

from bsopt.trial.record import StopReason
from bsopt.visualization.interaction import interaction_info, plot_interaction
from bsopt.visualization.study_data import Status, StudyData

Make = Callable[..., StudyData]


def test_every_trial_is_shown_once(study: optuna.Study) -> None:
    info = interaction_info(study)
    numbers = sorted(record.number for group in info.trials.values() for record in group)
    assert numbers == list(range(40))


def test_pruned_diverged_and_out_of_memory_are_told_apart(data_of: Make) -> None:
    data = data_of(
        (32, 0.01, 0.3, StopReason.COMPLETED),
        (32, 0.02, 0.4, StopReason.PRUNED_PLATEAU),
        (32, 0.5, 2.0, StopReason.DIVERGED),
        (1024, 0.1, None, StopReason.OUT_OF_MEMORY),
        (64, 0.1, None, StopReason.FAILED),
    )
    info = interaction_info(data)
    assert {status: len(group) for status, group in info.trials.items()} == dict.fromkeys(
        (Status.COMPLETE, Status.PRUNED, Status.DIVERGED, Status.OUT_OF_MEMORY, Status.FAILED), 1
    )
    symbols = [trace.marker.symbol for trace in plot_interaction(data).data if trace.mode == "markers"]
    assert len(set(symbols)) == len(symbols) == 6  # and the ring around the best


def test_the_best_is_a_completed_trial(data_of: Make) -> None:
    data = data_of((32, 0.01, 0.3, StopReason.COMPLETED), (32, 0.02, 0.1, StopReason.PRUNED_PLATEAU))
    best = interaction_info(data).best
    assert best is not None
    assert best.number == 0


def test_rules_pass_through_the_reference(study: optuna.Study) -> None:
    info = interaction_info(study)
    assert info.reference is not None
    for line in info.lines:
        place = min(range(33), key=lambda i: abs(line.batch_sizes[i] - 32))
        assert line.lrs[place] == pytest.approx(0.01, rel=0.1)
    assert [line.rule for line in info.lines if line.is_prior] == ["linear"]


def test_the_reference_is_the_best_trial_where_none_is_named(foreign_study: optuna.Study) -> None:
    info = interaction_info(foreign_study)
    assert info.reference_is_best
    assert info.best is not None
    assert info.reference is not None
    assert info.reference.lr == info.best.lr


def test_one_bad_value_does_not_stretch_the_colours(data_of: Make) -> None:
    rows = [(32, 0.01 * (1 + i), 0.3 + 0.01 * i, StopReason.COMPLETED) for i in range(9)]
    data = data_of(*rows, (32, 0.5, 900.0, StopReason.COMPLETED))
    assert interaction_info(data).colour_range == pytest.approx((0.3, 0.37))


def test_the_best_colour_is_the_largest_value_when_maximising(data_of: Make) -> None:
    rows = [(32, 0.01 * (1 + i), 0.1 * i, StopReason.COMPLETED) for i in range(5)]
    colours = interaction_info(data_of(*rows, direction="maximize")).colour_range
    assert colours is not None
    assert colours[0] == pytest.approx(0.4)
    assert colours[1] < colours[0]


def test_several_studies_stand_in_panels(study: optuna.Study, foreign_study: optuna.Study) -> None:
    figure = plot_interaction([study, foreign_study])
    assert {trace.xaxis for trace in figure.data} == {"x", "x2"}
    assert [note.text for note in figure.layout.annotations] == ["example", "&lt;b&gt;foreign&lt;/b&gt;"]
