from __future__ import annotations

from collections.abc import Callable

import numpy as np
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
    assert len(set(symbols)) == len(symbols) == 7  # and the ring around the best, and the star


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
    assert interaction_info(data).colour_range == pytest.approx((0.3, 0.35))


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


def test_seeds_of_one_setting_are_one_mark_with_the_worst_as_its_ring(data_of: Make) -> None:
    rows = [(32, 0.01, value, StopReason.COMPLETED) for value in (0.3, 0.9, 0.31)]
    data = data_of(*rows, (64, 0.01, 0.32, StopReason.COMPLETED))
    info = interaction_info(data)
    assert sorted(len(setting.records) for setting in info.settings) == [1, 3]
    figure = plot_interaction(data)
    (marks,) = (trace for trace in figure.data if trace.name == "complete (4)")
    assert sorted(marks.marker.color) == [0.31, 0.32]
    (rings,) = (trace for trace in figure.data if trace.name == "worst of its seeds")
    assert list(rings.marker.color) == [0.9]
    assert "0.3 to 0.9" in marks.text[marks.x.index(32)]


@pytest.mark.parametrize("direction", ["minimize", "maximize"])
def test_the_best_mark_is_the_largest_and_lies_on_top(data_of: Make, direction: str) -> None:
    rows = [(32, 0.01 * (1 + i), 0.1 * (1 + i), StopReason.COMPLETED) for i in range(6)]
    (marks,) = (t for t in plot_interaction(data_of(*rows, direction=direction)).data if t.name == "complete (6)")
    best = min(marks.marker.color) if direction == "minimize" else max(marks.marker.color)
    assert marks.marker.color[-1] == best
    assert marks.marker.size[-1] == max(marks.marker.size)


@pytest.mark.slow
def test_no_cloud_reaches_where_the_belief_is_unsure(study: optuna.Study) -> None:
    info = interaction_info(study)
    assert info.surface is not None
    assert info.colour_range is not None
    best, worst = info.colour_range
    clouds = [trace for trace in plot_interaction(study).data if trace.type == "contour"]
    assert len(clouds) == 3
    unsure = 0
    for row, deviations in zip(clouds[0].z, info.surface.sd, strict=True):
        for value, sd in zip(row, deviations, strict=True):
            if sd > 0.25 * (worst - best):
                assert value == 1.0  # a share of the way from the best to the worst colour
                unsure += 1
    assert unsure > 0
    assert all(0.0 < cloud.contours.value < 1.0 for cloud in clouds)


def test_no_band_wider_than_a_factor_of_eight_hides_the_trials(study: optuna.Study) -> None:
    for trace in plot_interaction(study).data:
        if trace.type == "scatter" and trace.fill == "toself":
            for size in set(trace.x):
                ends = [y for x, y in zip(trace.x, trace.y, strict=True) if x == size]
                assert max(ends) <= 8.01 * min(ends)


def test_values_of_several_objectives_are_not_said_to_be_missing() -> None:
    study = optuna.create_study(directions=["minimize", "maximize"], sampler=optuna.samplers.RandomSampler(seed=0))
    study.optimize(lambda t: (t.suggest_int("batch_size", 8, 64), t.suggest_float("lr", 0.1, 1)), n_trials=5)
    words = plot_interaction(study).to_json().replace("\\u003cbr\\u003e", " ").replace("<br>", " ").lower()
    assert "no trial has a value yet" not in words
    assert "for one objective" in words


def test_tiny_values_have_their_own_clouds(data_of: Make) -> None:
    def clouds(unit: float) -> list[object]:
        rows = [(size, 0.001 * 4**i, unit * (0.3 + 0.1 * (i - 2) ** 2), StopReason.COMPLETED)
                for size in (8, 32) for i in range(5)]  # fmt: skip
        return [trace.z for trace in plot_interaction(data_of(*rows)).data if trace.type == "contour"]

    plain, tiny = clouds(1.0), clouds(1e-9)
    assert len(tiny) == len(plain) == 3
    assert np.asarray(tiny[0], dtype=float) == pytest.approx(np.asarray(plain[0], dtype=float), abs=0.02)
    assert np.ptp(np.asarray(tiny[0], dtype=float)) > 0.9


def test_a_single_value_has_no_bar_of_colours(data_of: Make) -> None:
    figure = plot_interaction(data_of((32, 0.01, 0.576, StopReason.COMPLETED)))
    assert not any(trace.marker.showscale for trace in figure.data if trace.mode == "markers")


def test_pruned_trials_alone_have_a_bar_of_their_colours(data_of: Make) -> None:
    figure = plot_interaction(data_of(*((32, 0.01 * i, 0.3 * i, StopReason.PRUNED_PLATEAU) for i in (1, 2, 3))))
    assert [trace.name for trace in figure.data if trace.marker.showscale] == ["pruned (3)"]


def test_the_bar_of_values_that_hardly_differ_tells_them_apart(data_of: Make) -> None:
    rows = ((32, 0.01 * i, 12345.0 + 0.001 * i, StopReason.COMPLETED) for i in range(1, 6))
    bar = next(trace.marker.colorbar for trace in plot_interaction(data_of(*rows)).data if trace.marker.showscale)
    assert len(set(bar.ticktext)) == 5
