"""Figures of a designed batch-size experiment."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from statistics import fmean, median
from typing import Any

import optuna
import plotly.graph_objects as go
import pytest
from click.testing import CliRunner
from scipy import stats

import bsopt.visualization
from bsopt.cli.main import main
from bsopt.errors import ConfigError
from bsopt.experiment.findings.verdicts import Outcome
from bsopt.storage.databases import open_storage
from bsopt.testing.experiment import NUM_TRAIN_SAMPLES, example_experiment
from bsopt.visualization import EXPERIMENT_FIGURES
from bsopt.visualization._theme import TEMPLATES
from bsopt.visualization.experiment.by_batch_size import experiment_by_batch_size_info, plot_experiment_by_batch_size
from bsopt.visualization.experiment.curves import experiment_curves_info, plot_experiment_curves
from bsopt.visualization.experiment.devices import experiment_devices_info, plot_experiment_devices
from bsopt.visualization.experiment.epoch_distance import experiment_epoch_distance_info
from bsopt.visualization.experiment.landscape import experiment_landscape_info, plot_experiment_landscape
from bsopt.visualization.experiment.layers import experiment_layers_info
from bsopt.visualization.experiment.line import experiment_line_info, plot_experiment_line
from bsopt.visualization.experiment.lr_grid import experiment_lr_info, plot_experiment_lr
from bsopt.visualization.experiment.update_norms import experiment_update_norms_info
from bsopt.visualization.experiment.variants import experiment_variants_info
from bsopt.visualization.experiment.verdicts import experiment_verdicts_info, plot_experiment_verdicts
from bsopt.visualization.study_data import StudyData, load

every_figure = pytest.mark.parametrize("name", list(EXPERIMENT_FIGURES))
LOST = (32, 0.08, 1)


@pytest.fixture(scope="module")
def data() -> StudyData:
    """An experiment of four batch sizes, four arms and five seeds, one of whose runs diverged."""
    return load(example_experiment(diverged=[LOST], variants={"bf16": 1.0, "warm-up": 0.9}))


@pytest.fixture(scope="module")
def small() -> StudyData:
    """Two seeds, one arm, no analyses."""
    return load(example_experiment(seeds=2, arms=("fixed_lr",), has_analyses=False))


@pytest.fixture(scope="module")
def single() -> StudyData:
    """One seed."""
    return load(example_experiment(seeds=1))


@every_figure
def test_every_figure_of_a_whole_experiment_is_drawn(name: str, data: StudyData) -> None:
    figure = EXPERIMENT_FIGURES[name](data)
    assert figure.data
    assert figure.layout.title.text
    for axis in [*figure.select_xaxes(), *figure.select_yaxes()]:
        assert axis.title.text or axis.type == "category" or axis.matches or axis.showticklabels is False
    assert figure.layout.template == TEMPLATES["bsopt"]


@every_figure
def test_a_study_without_an_experiment_is_told_in_a_sentence(name: str, study: optuna.Study) -> None:
    figure = EXPERIMENT_FIGURES[name](study)
    assert not figure.data
    assert "experiment" in figure.layout.annotations[0].text


@every_figure
def test_an_experiment_with_no_ended_run_is_told_in_a_sentence(name: str, data: StudyData) -> None:
    empty = StudyData(data.info, (), optuna.create_study())
    empty.__dict__["experiment"] = type(data.experiment)(data.info, data.experiment.design, ())  # type: ignore[union-attr, misc]
    figure = EXPERIMENT_FIGURES[name](empty)
    assert not figure.data
    assert figure.layout.annotations[0].text.endswith(".")


@every_figure
def test_one_seed_and_missing_arms_are_drawn_or_told(name: str, small: StudyData, single: StudyData) -> None:
    for source in (small, single):
        figure = EXPERIMENT_FIGURES[name](source)
        assert figure.data or figure.layout.annotations[0].text.endswith(".")


@pytest.mark.slow
@every_figure
def test_drawing_twice_gives_the_same(name: str, data: StudyData) -> None:
    assert EXPERIMENT_FIGURES[name](data).to_json() == EXPERIMENT_FIGURES[name](data).to_json()


@pytest.mark.slow
@every_figure
def test_a_thousand_epochs_stay_small(name: str, long: StudyData) -> None:
    assert len(EXPERIMENT_FIGURES[name](long).to_json()) < 3e5


@pytest.fixture(scope="module")
def long() -> StudyData:
    return load(example_experiment(epochs=1000, arms=("fixed_lr", "scaled_lr", "higher_lr")))


def test_the_articles_measured_figures_are_all_there() -> None:
    numbers = [figure.article for figure in EXPERIMENT_FIGURES.values() if figure.article is not None]
    assert numbers == [5, 6, 7, 8, 10, 11, 12, 13, 18, 21, 22, 23, 24, 25, 26, 27, 28, 29]


def test_each_plot_function_is_public() -> None:
    names = [name for name in bsopt.visualization.__all__ if name.startswith("plot_experiment_")]
    assert len(names) == 11
    assert all(callable(getattr(bsopt.visualization, name)) for name in names)


def test_values_decades_apart_are_averaged_as_logarithms(data: StudyData) -> None:
    found = experiment_by_batch_size_info(data, measurements=("best_val_loss", "sharpness"))
    assert found.logs == {"sharpness"}
    group = found.panels["sharpness"][-1]
    assert group.mean.value == pytest.approx(stats.gmean(list(group.values.values())))
    assert group.mean.low > 0
    figure = plot_experiment_by_batch_size(data, measurements=("best_val_loss", "sharpness"))
    assert [axis.type for axis in figure.select_yaxes()] == [None, "log"]


def test_groups_hold_every_seed_of_their_arm(data: StudyData) -> None:
    assert data.experiment is not None
    found = experiment_by_batch_size_info(data, measurements=("best_val_loss",), arms=("fixed_lr", "scaled_lr"))
    groups = {(group.arm, group.batch_size): group for group in found.panels["best_val_loss"]}
    assert len(groups) == 8
    expected = data.experiment.values("best_val_loss", "scaled_lr")[256]
    assert groups["scaled_lr", 256].values == expected
    assert groups["scaled_lr", 256].mean.value == pytest.approx(fmean(expected.values()))
    assert groups["scaled_lr", 256].lr == pytest.approx(0.08)
    assert groups["fixed_lr", 32].values == groups["scaled_lr", 32].values, "one run, in both arms"


def test_points_carry_bars_units_and_what_the_bars_are(data: StudyData) -> None:
    figure = plot_experiment_by_batch_size(data, measurements=("seconds_per_epoch", "sharpness"))
    assert [axis.title.text for axis in figure.select_yaxes()] == ["time per epoch [s]", "sharpness [%]"]
    means = [trace for trace in figure.data if trace.mode == "lines+markers"]
    assert all(min(trace.error_y.array) > 0 for trace in means)
    caption = figure.layout.legend.title.text
    assert caption == "Mean over 5 seeds; bars: its 95 % interval.<br>On log axes: the geometric mean."
    assert "5 seeds" in means[0].text[0]
    two = plot_experiment_by_batch_size(load(example_experiment(seeds=2)))
    assert two.layout.legend.title.text == "Mean over 2 seeds; bars: their range."
    one = plot_experiment_by_batch_size(load(example_experiment(seeds=1)))
    assert not one.data[-1].error_y.visible


def test_variants_stand_beside_the_study_s_own_settings(data: StudyData, small: StudyData) -> None:
    found = experiment_variants_info(data)
    assert [(panel.arm, panel.measurement) for panel in found.panels] == [
        ("fixed_lr", "best_val_loss"),
        ("scaled_lr", "best_val_loss"),
        ("fixed_lr", "seconds_per_epoch"),
        ("fixed_lr", "peak_memory"),
    ]
    lines = found.panels[0].lines
    assert list(lines) == ["as the study", "bf16", "warm-up"]
    own, warm = (lines[name][-1] for name in ("as the study", "warm-up"))
    assert (own.batch_size, len(warm.values)) == (256, 5)
    assert warm.mean.value == pytest.approx(0.9 * own.mean.value, rel=0.05)
    figure = EXPERIMENT_FIGURES["experiment_variants"](data)
    assert sum(trace.showlegend is not False for trace in figure.data) == 3
    assert "no variants" in experiment_variants_info(small).message


def test_a_diverged_run_is_a_cross_and_named(data: StudyData) -> None:
    figure = plot_experiment_by_batch_size(data, arms=("higher_lr",))
    assert list(figure.data[0].marker.symbol).count("x-thin-open") == 1
    assert "1 diverged" in figure.layout.legend.title.text


def test_a_comparison_needs_both_arms(small: StudyData) -> None:
    found = experiment_by_batch_size_info(small, arms=("fixed_lr", "scaled_lr"))
    assert not found.panels
    assert "no arm scaled_lr" in found.message
    assert "bsopt study analyze" in experiment_by_batch_size_info(small, measurements=("sharpness",)).message


def test_unknown_names_are_answered_with_the_nearest(data: StudyData) -> None:
    with pytest.raises(ConfigError, match="sharpness"):
        plot_experiment_by_batch_size(data, measurements=("sharpnes",))
    with pytest.raises(ConfigError, match="fixed_lr"):
        plot_experiment_curves(data, arm="fixed")
    with pytest.raises(ConfigError, match="plot_experiment_lr"):
        plot_experiment_by_batch_size(data, arms=("grid",))


def test_curves_are_means_of_healthy_runs(data: StudyData) -> None:
    assert data.experiment is not None
    found = experiment_curves_info(data, arm="higher_lr")
    first = found.sizes[0]
    assert (first.batch_size, len(first.runs), len(first.diverged)) == (32, 4, 1)
    values = [run.record.ticks[0].value for run in first.runs.values()]
    assert first.losses["validation"].means[0].value == pytest.approx(fmean(values))
    trained = [run.record.ticks[0].metrics["train_loss"] for run in first.runs.values()]
    assert first.losses["train"].means[0].value == pytest.approx(fmean(trained))
    shortest = min(len(run.record.ticks) for run in first.runs.values())
    assert first.losses["train"].places[-1] == shortest - 1


def test_a_diverged_run_ends_with_a_cross_inside_the_axis(data: StudyData) -> None:
    figure = plot_experiment_curves(data, arm="higher_lr")
    crosses = [t for t in figure.data if t.mode == "lines+markers" and t.marker.symbol == "x"]
    assert len(crosses) == 2, "one in each plot"
    top = figure.layout.yaxis.range[1]
    assert max(crosses[0].y) <= top < 1.0, "its loss of 3 doesn't stretch the axis"
    assert crosses[0].marker.size[-1] > 0


def test_a_batch_size_whose_every_run_diverged_is_named() -> None:
    figure = plot_experiment_curves(
        load(example_experiment(seeds=2, diverged=[(32, 0.08, 0), (32, 0.08, 1)])), arm="higher_lr"
    )
    named = [trace.name for trace in figure.data if trace.showlegend]
    assert named == ["batch size 32, diverged", "batch size 64", "batch size 128", "batch size 256"]
    assert "2 diverged" in figure.layout.legend.title.text


def test_the_axis_menu_moves_every_trace(data: StudyData) -> None:
    figure = plot_experiment_curves(data)
    (menu,) = figure.layout.updatemenus
    assert [button.label for button in menu.buttons] == [
        "by epochs",
        "by optimizer updates",
        "by samples seen",
        "by training time",
    ]
    for button in menu.buttons:
        assert [len(x) for x in button.args[0]["x"]] == [len(trace.x) for trace in figure.data]
    by_epoch, by_update = (menu.buttons[i].args[0]["x"] for i in (0, 1))
    assert by_update[1][0] == by_epoch[1][0] * NUM_TRAIN_SAMPLES / 32


def test_devices_are_predicted_and_named_so(data: StudyData) -> None:
    found = experiment_devices_info(data)
    assert list(found.lines) == [1, 2, 4, 8]
    assert not found.has_communication
    measured, predicted = found.lines[1], found.lines[4]
    seconds = [run.record.seconds_per_epoch for run in data.experiment.runs if run.batch_size == 256]  # type: ignore[union-attr]
    assert measured[-1].seconds.value == pytest.approx(median(s for s in seconds if s))
    # 4 ms and 0.2 ms per sample, 64 samples on each of four devices.
    assert predicted[-1].seconds.value == pytest.approx(NUM_TRAIN_SAMPLES / 256 * (4e-3 + 64 * 2e-4), rel=0.1)
    figure = plot_experiment_devices(data)
    assert [trace.name for trace in figure.data][:2] == ["1 device, measured", "2 devices, predicted"]
    assert "at least this" in figure.layout.legend.title.text


def test_devices_that_trained_are_measured(data: StudyData) -> None:
    other = load(example_experiment(devices=4))
    both = StudyData(data.info, (*data.records, *other.records), data.study)
    both.__dict__["experiment"] = data.experiment
    found = experiment_devices_info(both)
    assert list(found.lines) == [1, 4]
    assert all(time.num_trials == 25 for times in found.lines.values() for time in times)


def test_runs_that_were_still_best_at_their_end_are_open(data: StudyData) -> None:
    experiment = data.experiment
    assert experiment is not None
    cut = [replace(r, record=replace(r.record, ticks=r.record.ticks[: r.record.best.index])) for r in experiment.runs]  # type: ignore[union-attr]
    found = StudyData(data.info, data.records, data.study)
    found.__dict__["experiment"] = replace(experiment, runs=tuple(cut))
    figure = plot_experiment_by_batch_size(found, measurements=("seconds_per_epoch", "epochs_to_best"))
    means = [trace.marker.symbol for trace in figure.data if trace.mode == "lines+markers"]
    assert means == ["circle", ("circle-open",) * 4]
    assert "20 of 20 runs were still best" in figure.layout.legend.title.text.replace("<br>", " ")


def test_layers_compare_the_ends(data: StudyData) -> None:
    found = experiment_layers_info(data)
    assert list(found.sizes) == [32, 256]
    assert list(found.sizes[32])[:2] == ["features.0", "features.3"]
    assert all(found.sizes[32][name].value > found.sizes[256][name].value for name in found.sizes[32])


def test_the_ratio_of_epoch_distances_is_within_seeds(data: StudyData) -> None:
    assert data.experiment is not None
    found = experiment_epoch_distance_info(data)
    assert found.ratio is not None
    at = {
        size: {
            run.seed: run.record.measurements["WeightDistance"]["epochs"][0]
            for run in data.experiment.arm("fixed_lr")
            if run.batch_size == size
        }
        for size in (32, 256)
    }
    ratios = [math.log(at[32][seed] / at[256][seed]) for seed in at[32]]
    assert found.ratio.means[0].value == pytest.approx(math.exp(fmean(ratios)))
    assert found.ratio.means[0].low < found.ratio.means[0].value < found.ratio.means[0].high


def test_histograms_keep_all_updates_and_their_median(data: StudyData) -> None:
    found = experiment_update_norms_info(data)
    for item in found.sizes:
        assert sum(share.value for share in item.shares) == pytest.approx(100.0)
        below = sum(s.value for s, edge in zip(item.shares, found.edges[1:], strict=True) if edge <= item.median.value)
        assert below == pytest.approx(50.0, abs=15.0)
    assert [item.median.value for item in found.sizes] == sorted((i.median.value for i in found.sizes), reverse=True)


def test_lines_stand_by_arm_between_their_ends(data: StudyData) -> None:
    found = experiment_line_info(data)
    assert [line.arm for line in found.lines] == ["fixed_lr", "scaled_lr"]
    line = found.lines[0]
    centre = line.losses["train"][line.alphas.index(0.0)]
    assert centre is not None
    assert (centre.value, centre.num_seeds, line.batch_sizes) == (pytest.approx(0.06), 5, (32, 256))
    figure = plot_experiment_line(data)
    assert {note.text for note in figure.layout.annotations} == {"B = 32", "B = 256"}


def test_landscapes_name_their_runs(data: StudyData) -> None:
    found = experiment_landscape_info(data)
    assert list(found.panels) == ["B = 32, lr 0.01", "B = 256, lr 0.01", "B = 256, lr 0.08"]
    contours = [trace for trace in plot_experiment_landscape(data).data if trace.type == "contour"]
    assert len(contours) == 3
    assert contours[0].contours == contours[1].contours


def test_the_best_rate_of_each_batch_size_is_drawn_large(data: StudyData) -> None:
    found = experiment_lr_info(data)
    assert {size: len(points) for size, points in found.sizes.items()} == dict.fromkeys((32, 64, 128, 256), 5)
    rates = []
    for trace, (size, points) in zip(plot_experiment_lr(data).data, found.sizes.items(), strict=True):
        best = min(range(len(points)), key=lambda i: points[i].mean.value)
        assert trace.name == f"batch size {size}"
        assert max(trace.marker.size) == trace.marker.size[best]
        rates.append(points[best].lr)
    assert rates == sorted(rates)
    assert rates[0] < rates[-1]
    assert "two" in experiment_lr_info(load(example_experiment(arms=("fixed_lr",)))).message


def test_verdicts_stand_with_their_kind_and_colour(data: StudyData) -> None:
    found = experiment_verdicts_info(data)
    assert sum(len(verdicts) for verdicts in found.kinds.values()) == 24
    for kind, verdicts in found.kinds.items():
        for verdict in verdicts:
            assert verdict.quantity is not None
            assert verdict.kind == kind
            assert verdict.quantity.startswith(kind) or (kind == "ratio" and " over that " in verdict.quantity)
    figure = plot_experiment_verdicts(data)
    worse = next(trace for trace in figure.data if trace.y and "worse minima" in trace.y)
    place = list(worse.y).index("worse minima")
    verdict = found.kinds["ratio"][0]
    assert verdict.outcome is Outcome.SUPPORTED
    assert worse.marker.color == "#009E73"
    assert worse.x[place] == pytest.approx(verdict.effect, rel=1e-4)
    assert worse.x[place] + worse.error_x.array[place] == pytest.approx(verdict.interval[1], rel=1e-3)  # type: ignore[index]


def test_verdicts_that_could_not_be_tested_are_named(small: StudyData) -> None:
    assert "at least 5 are needed" in experiment_verdicts_info(small).message
    partly = load(example_experiment(arms=("fixed_lr",), has_analyses=False))
    figure = plot_experiment_verdicts(partly)
    untested = [note for note in figure.layout.annotations if note.text == "not tested"]
    assert {note.y for note in untested} >= {"sharper", "scaling saves epochs"}
    assert all("Can't tell" in note.hovertext for note in untested)


@pytest.mark.slow
def test_foreign_text_stays_text() -> None:
    study = example_experiment(name="<b>mine</b>", seeds=2)
    for plot in EXPERIMENT_FIGURES.values():
        assert "<b>mine" not in str(_plain(plot(study)))


@pytest.mark.slow
def test_the_command_line_draws_and_lists_them(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'study.db'}"
    example_experiment(seeds=1, epochs=20, name="effect", storage=open_storage(url), has_analyses=False)
    listed = CliRunner().invoke(main, ["study", "plot", "--list"])
    assert "experiment_layers" in listed.output
    assert "Chang & Pathak 2020, figure 11" in listed.output
    path = tmp_path / "loss.html"
    args = ["study", "plot", "effect", "--storage", url, "-f", "experiment_loss", "-o", str(path)]
    done = CliRunner().invoke(main, args)
    assert done.exit_code == 0, done.output
    assert path.stat().st_size > 1e6
    wrong = CliRunner().invoke(main, ["study", "plot", "effect", "--storage", url, "-f", "experiment_los"])
    assert "experiment_loss" in wrong.output


def _plain(figure: go.Figure) -> dict[str, Any]:
    found: dict[str, Any] = figure.to_plotly_json()
    return found
