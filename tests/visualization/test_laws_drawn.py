"""Figures of fitted laws: throughput, steps to a target, noise scale, the ridge and the model's belief."""

from __future__ import annotations

import math
from dataclasses import replace

import optuna
import pytest

from bsopt.testing.study import CRITICAL_BATCH_SIZE, example_data
from bsopt.trial.objective import Objective
from bsopt.trial.record import StudyInfo, Tick, TrialRecord
from bsopt.visualization.devices import devices_info, plot_devices
from bsopt.visualization.interaction import interaction_info, plot_interaction
from bsopt.visualization.noise_scale import noise_scale_info, plot_noise_scale
from bsopt.visualization.steps_to_target import plot_steps_to_target, steps_to_target_info
from bsopt.visualization.study_data import StudyData, load
from bsopt.visualization.surface import believed_surface
from bsopt.visualization.throughput import plot_throughput, throughput_info


@pytest.fixture(scope="module")
def data() -> StudyData:
    return example_data(60)


def test_the_fitted_learning_rate_covers_the_law_it_was_made_from(data: StudyData) -> None:
    ridge = interaction_info(data).ridge
    assert ridge[0].batch_size == 8
    for point in ridge:
        truth = 0.01 * (1 + 256 / 32) / (1 + 256 / point.batch_size)
        assert point.lr.low / 1.5 < truth < point.lr.high * 1.5


def test_the_believed_surface_is_best_near_the_fitted_ridge(data: StudyData) -> None:
    surface = believed_surface(data)
    assert surface is not None
    column = min(range(len(surface.batch_sizes)), key=lambda j: abs(surface.batch_sizes[j] - 32))
    values = [row[column] for row in surface.values]
    assert surface.lrs[values.index(min(values))] == pytest.approx(0.01, rel=1.5)


@pytest.mark.slow
def test_the_surface_turns_round_when_maximising(data: StudyData) -> None:
    turned = StudyData(
        replace(data.info, objective=Objective("val_loss", "maximize")),
        tuple(replace(r, value=-r.value if r.value is not None else None) for r in data.records),
    )
    up, down = believed_surface(turned), believed_surface(data)
    assert up is not None
    assert down is not None
    assert max(max(row) for row in up.values) == pytest.approx(-min(min(row) for row in down.values), rel=0.05)


def test_few_trials_are_drawn_without_a_belief() -> None:
    info = interaction_info(example_data(3))
    assert info.surface is None
    assert info.ridge == ()
    assert plot_interaction(example_data(3)).data


@pytest.fixture(scope="module")
def many() -> StudyData:
    return example_data(300)


@pytest.mark.slow
def test_the_critical_batch_size_is_found_and_marked(many: StudyData) -> None:
    info = steps_to_target_info(many)
    assert info.critical_batch_size is not None
    assert CRITICAL_BATCH_SIZE / 5 < info.critical_batch_size.value < CRITICAL_BATCH_SIZE * 5
    figure = plot_steps_to_target(many)
    assert any("critical batch size" in str(note.text) for note in figure.layout.annotations)
    assert figure.layout.shapes


def test_updates_times_batch_size_are_samples(many: StudyData) -> None:
    info = steps_to_target_info(many)
    for size, steps, samples in zip(info.batch_sizes, info.steps, info.samples, strict=True):
        assert steps.value * size == pytest.approx(samples.value)


def test_runs_that_contradict_the_law_are_told_in_the_figure() -> None:
    def run(number: int, size: int, reached_at: int) -> TrialRecord:
        ticks = tuple(Tick(i, 100.0 * i, i, i, i, 0.1 if i >= reached_at else 1.0) for i in range(1, 40))
        return TrialRecord(number, "complete", batch_size=size, lr=0.1, value=0.1, best_tick=reached_at, ticks=ticks)

    found = StudyData(StudyInfo("odd"), (run(0, 8, 30), run(1, 16, 20), run(2, 64, 2)))
    figure = plot_steps_to_target(found)
    assert any("where the law allows no" in str(note.text).replace("<br>", " ") for note in figure.layout.annotations)


def test_throughput_is_per_device_and_its_law_passes_through_the_measurements(data: StudyData) -> None:
    info = throughput_info(data)
    assert info.throughput is not None
    record = next(r for r in info.records if r.plan is not None and r.plan.micro_batch_size == 128)
    place = min(range(33), key=lambda i: abs(info.throughput.batch_sizes[i] - 128))  # type: ignore[union-attr]
    assert record.samples_per_second == pytest.approx(info.throughput.values[place].value, rel=0.15)
    assert info.memory is not None
    assert info.memory.values[-1].value == pytest.approx(400e6 + 3.2e6 * 512, rel=0.05)


def test_one_micro_batch_is_drawn_without_a_law() -> None:
    found = [r for r in example_data(40).records if r.batch_size == 64]
    assert plot_throughput(StudyData(StudyInfo("one"), tuple(found))).data
    assert throughput_info(StudyData(StudyInfo("one"), tuple(found))).throughput is None


def test_the_noise_scale_of_each_batch_size_is_that_of_its_best_trial(study: optuna.Study) -> None:
    info = noise_scale_info(study)
    best = load(study).best
    assert best is not None
    assert info.paths[0].record.number == best.number
    sizes = [path.record.batch_size for path in info.paths]
    assert len(set(sizes)) == len(sizes)


def test_a_noise_scale_that_was_never_measured_says_how_to(data: StudyData) -> None:
    bare = tuple(
        replace(r, ticks=tuple(replace(tick, metrics={"val_loss": tick.value}) for tick in r.ticks))
        for r in data.records
    )
    figure = plot_noise_scale(StudyData(data.info, bare))
    assert "GradientNoiseScale" in figure.layout.annotations[0].text


def test_unbounded_noise_has_no_band() -> None:
    metrics = {"bsopt/noise_scale": 50.0, "bsopt/noise_scale_low": 20.0}
    ticks = tuple(Tick(i, 100.0 * i, i, i, i, 1.0, metrics=metrics) for i in range(1, 5))
    record = TrialRecord(0, "complete", batch_size=8, lr=0.1, value=1.0, best_tick=1, ticks=ticks)
    found = StudyData(StudyInfo("made"), (record,))
    assert noise_scale_info(found).paths[0].high == (math.inf,) * 4
    assert all(trace.fill is None for trace in plot_noise_scale(found).data)


@pytest.fixture(scope="module")
def several() -> StudyData:
    return example_data(120, devices=(1, 2, 4))


@pytest.mark.slow
def test_more_devices_are_predicted_once_several_were_measured(several: StudyData) -> None:
    info = devices_info(several)
    assert set(info.placements) >= {1, 2, 4, 8}
    by_size = {devices: {item.plan.global_batch_size: item for item in row} for devices, row in info.placements.items()}
    assert by_size[4][256].seconds.value < by_size[1][256].seconds.value
    assert by_size[4][256].device_seconds.value > by_size[1][256].device_seconds.value
    for item in by_size[2].values():
        assert item.seconds.low < item.seconds.value < item.seconds.high
        assert item.device_seconds.value == pytest.approx(2 * item.seconds.value)


@pytest.mark.slow
def test_times_by_devices_are_to_what_the_answers_are(several: StudyData) -> None:
    info = devices_info(several)
    costs = {size.batch_size: size.costs[0].seconds for size in several.recommendation.sizes if size.costs}
    for item in info.placements[1]:
        assert item.seconds == costs[item.plan.global_batch_size]
    figure = plot_devices(several)
    assert figure.layout.title.text.startswith("Time and cost by devices, over the budget")
    assert "Tested to be as good" in figure.layout.legend.title.text
    target = several.fits.steps.target
    assert target is not None
    objective = replace(several.info.objective, target=target)
    named = StudyData(replace(several.info, objective=objective), several.records)
    assert devices_info(named).cost_is == f"to val_loss {target:.4g}"
    assert devices_info(named).placements[1][0].seconds.value < info.placements[1][0].seconds.value


def test_what_ran_is_told_from_what_is_predicted(several: StudyData) -> None:
    info = devices_info(several)
    ran = {(r.plan.num_devices, r.batch_size) for r in several.records if r.plan is not None and r.seconds_per_step}
    for devices, row in info.placements.items():
        for item in row:
            size = item.plan.global_batch_size
            assert item.is_measured == (devices == 1 or (devices, size) in ran)
    assert all(not item.is_measured for item in info.placements[8])
    names = {trace.name: trace for trace in plot_devices(several).data}
    assert names["8 devices, predicted"].marker.symbol.endswith("-open")
    assert not names["4 devices"].marker.symbol.endswith("-open")
    assert names["8 devices, predicted"].line.dash == "dash"
    assert names["4 devices"].line.dash == "solid"
    assert any("all-reduce" in str(note.text) for note in plot_devices(several).layout.annotations)


def test_strong_and_weak_scaling_are_those_of_the_law(several: StudyData) -> None:
    """A step takes 4 ms and 60 µs a sample, and over 4 devices 3 ms · 3/4 more that nothing hides."""
    by_size = {item.plan.global_batch_size: item for item in devices_info(several).placements[4]}
    assert all(item.strong is None for item in devices_info(several).placements[1])
    for size in (64, 256):
        item = by_size[size]
        four = 4.0 + 0.06 * size / 4 + 2.25
        assert item.strong is not None
        assert item.weak is not None
        assert item.strong.value == pytest.approx((4.0 + 0.06 * size) / four, rel=0.1)
        assert item.weak.value == pytest.approx((4.0 + 0.06 * size / 4) / four, rel=0.1)
        assert item.strong.low < item.strong.value < item.strong.high
    text = next(t.text for t in plot_devices(several).data if t.name == "4 devices" and t.yaxis == "y3")
    assert any("weak scaling" in one for one in text)


@pytest.mark.slow
def test_one_device_alone_says_why_more_cannot_be_predicted() -> None:
    data = example_data(120)
    info = devices_info(data)
    assert set(info.placements) == {1}
    assert "several devices" in info.message
    figure = plot_devices(data)
    assert any("several devices" in str(note.text).replace("<br>", " ") for note in figure.layout.annotations)
