"""Training and validation loss of an experiment's runs during training, one line per batch size."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import plotly.graph_objects as go

from bsopt.errors import ConfigError
from bsopt.experiment.measurements import Experiment, ExperimentRun
from bsopt.experiment.seed_statistics import CurveOverSeeds, curve_over_seeds, spread
from bsopt.trial.curve import train_loss
from bsopt.units import format_number
from bsopt.visualization import _theme, _traces
from bsopt.visualization._axes import fitting_axis, is_wide
from bsopt.visualization.experiment._arms import arm_label, experiment_or_reason, look_of_size, mean_band, mean_words
from bsopt.visualization.learning_curves import Axis, CurveTrace, draw_curves, positions_of
from bsopt.visualization.study_data import Source

__all__ = ["CurvesInfo", "SizeCurve", "experiment_curves_info", "plot_experiment_curves"]

_ORDER: tuple[Axis, ...] = ("epoch", "step", "samples", "seconds")
_LOSSES = ("train", "validation")


@dataclass(frozen=True, slots=True)
class SizeCurve:
    """The runs of one batch size.

    Attributes:
        batch_size: Global batch size, samples.
        lr: Their learning rate.
        runs: Seed -> run; those that diverged are apart.
        diverged: Runs whose loss became NaN, infinite or exploded.
        losses: "train" and "validation" -> the curve over `runs`; what wasn't logged isn't there.
    """

    batch_size: int
    lr: float
    runs: Mapping[int, ExperimentRun]
    diverged: tuple[ExperimentRun, ...]
    losses: Mapping[str, CurveOverSeeds]


@dataclass(frozen=True, slots=True)
class CurvesInfo:
    """What the figure shows.

    Attributes:
        experiment: The study's; None where it has none.
        sizes: Smallest batch size first.
        logs: Of "train" and "validation", those whose values lie decades apart: averaged as logarithms.
        message: Why there is nothing to show.
    """

    experiment: Experiment | None
    sizes: tuple[SizeCurve, ...]
    logs: frozenset[str]
    message: str


@dataclass(frozen=True, slots=True)
class _Plot:
    """Where a loss is drawn; diverged runs end at `top`."""

    experiment: Experiment
    name: str
    row: int
    top: float


def experiment_curves_info(study: Source, *, arm: str = "fixed_lr") -> CurvesInfo:
    """Return the mean curves of an arm.

    Raises:
        ConfigError: The arm is unknown, or the grid, which has several learning rates per batch size.
    """
    experiment = experiment_or_reason(study, [arm])
    if arm == "grid":
        raise ConfigError("the grid has several learning rates at each batch size: plot_learning_curves draws them.")
    if isinstance(experiment, str):
        return CurvesInfo(None, (), frozenset(), experiment)
    runs = experiment.arm(arm)
    sizes = sorted({run.batch_size for run in runs})
    monitor = experiment.info.objective.monitor
    kept = [run for run in runs if not run.is_diverged]
    logs = frozenset(name for name in _LOSSES if is_wide([v for run in kept for v in _curve(run, name, monitor)]))
    curves = [_size_curve([run for run in runs if run.batch_size == size], monitor, logs) for size in sizes]
    return CurvesInfo(experiment, tuple(curves), logs, "")


def plot_experiment_curves(study: Source, *, arm: str = "fixed_lr", axis: Axis = "epoch") -> go.Figure:
    """Plot training and validation loss of an arm: the mean over seeds, one line per batch size.

    Chang & Pathak 2020, figures 5 (`fixed_lr`) and 23 (`scaled_lr`). The mean goes as far as all seeds do; beyond
    the shortest run the others go on as thin lines, and runs that diverged are thin lines with a cross. Buttons
    change the axis between epochs, updates, samples and seconds.

    Args:
        study: A study with an experiment.
        arm: `fixed_lr`, `scaled_lr` or `higher_lr`.
        axis: The axis that the figure opens with.

    Raises:
        ConfigError: The arm is unknown.
    """
    found = experiment_curves_info(study, arm=arm)
    if found.experiment is None or not found.sizes:
        return _traces.empty_figure("Loss during training", found.message)
    title = f"Loss during training, {arm_label(found.experiment.design, arm)}"
    rows = [name for name in _LOSSES if any(name in curve.losses for curve in found.sizes)]
    figure = _theme.stacked_figure(title, len(rows), height=320 * len(rows) + 100)
    curves: list[CurveTrace] = []
    for row, name in enumerate(rows, start=1):
        values = _values(found.sizes, name, found.experiment)
        plot = _Plot(found.experiment, name, row, top=max(values, default=math.inf))
        curves += [trace for curve in found.sizes for trace in _traces_of(plot, curve, has_lr=arm == "scaled_lr")]
        label = "training loss" if name == "train" else _theme.escape(found.experiment.info.objective.monitor)
        figure.update_yaxes(title={"text": label}, **fitting_axis(values, is_log=name in found.logs), row=row, col=1)
    draw_curves(figure, curves, axis, order=_ORDER)
    num_lost = sum(len(curve.diverged) for curve in found.sizes)
    counts = [len(curve.runs) for curve in found.sizes if curve.runs]
    has_tails = any(curve.tails for size in found.sizes for curve in size.losses.values())
    _traces.add_caption(
        figure,
        *(mean_words(counts, [name in found.logs for name in rows], mark="bands") if counts else []),
        "thin lines: runs that went on after the first stopped" if has_tails else None,
        f"crosses: {num_lost} diverged, not in the mean" if num_lost else None,
    )
    return figure


def _size_curve(runs: Sequence[ExperimentRun], monitor: str, logs: frozenset[str]) -> SizeCurve:
    lost = tuple(run for run in runs if run.is_diverged)
    kept = {run.seed: run for run in runs if run not in lost}
    losses = {}
    for name in _LOSSES:
        curves = {seed: _curve(run, name, monitor) for seed, run in kept.items()}
        if curves and any(math.isfinite(value) for curve in curves.values() for value in curve):
            losses[name] = curve_over_seeds(curves, is_log=name in logs)
    return SizeCurve(runs[0].batch_size, runs[0].lr, kept, lost, losses)


def _curve(run: ExperimentRun, name: str, monitor: str) -> list[float]:
    if name == "validation":
        return [tick.value for tick in run.record.ticks]
    losses = [train_loss(tick, monitor) for tick in run.record.ticks]
    return [loss if loss is not None else math.nan for loss in losses]


def _values(sizes: Sequence[SizeCurve], name: str, experiment: Experiment) -> list[float]:
    """Every healthy value that is drawn: a diverged run may not flatten the others."""
    found = []
    for size in sizes:
        if name in size.losses:
            found += [mean.value for mean in size.losses[name].means]
            for seed, places in size.losses[name].tails.items():
                curve = _curve(size.runs[seed], name, experiment.info.objective.monitor)
                found += [curve[place] for place in places if math.isfinite(curve[place])]
    return found


def _traces_of(plot: _Plot, curve: SizeCurve, *, has_lr: bool) -> list[CurveTrace]:
    """Return one batch size's band, mean, tails and diverged runs."""
    look, group = look_of_size(plot.experiment, curve.batch_size), f"batch size {curve.batch_size}"
    label = f"{group}, lr {format_number(curve.lr, digits=3)}" if has_lr else group
    found = []
    if plot.name in curve.losses:
        mean = curve.losses[plot.name]
        at = positions_of([[run.record.ticks[i] for run in curve.runs.values()] for i in mean.places])
        there_and_back = {axis: [*there, *reversed(there)] for axis, there in at.items()}
        bands = mean_band([0.0] * len(mean.means), mean.means, look, group=group)
        found += [CurveTrace(band, there_and_back, plot.row) for band in bands]
        line = _traces.line(
            (),
            [point.value for point in mean.means],
            look,
            name=label,
            hover=f"{label}<br>%{{x:,.4~g}}: <b>%{{y:.4~g}}</b> (%{{text}})",
            text=[_traces.span_text(point) for point in mean.means],
            group=group,
            showlegend=plot.row == 1,
            is_curve=True,
        )
        found.append(CurveTrace(line, at, plot.row))
        found += [_thin(plot, curve.runs[seed], places, look, group) for seed, places in mean.tails.items()]
    for run in curve.diverged:
        is_named = not curve.runs and run is curve.diverged[0]  # else the mean stands in the legend
        places = spread(0, len(run.record.ticks))
        found.append(_thin(plot, run, places, look, group, name=f"{label}, diverged" if is_named else ""))
    return found


def _thin(
    plot: _Plot, run: ExperimentRun, places: Sequence[int], look: _theme.Look, group: str, *, name: str = ""
) -> CurveTrace:
    """Return a part of a single run as a thin line; where it diverged, with a cross at its end, inside the plot."""
    values = _curve(run, plot.name, plot.experiment.info.objective.monitor)
    kept = [i for i in places if math.isfinite(values[i])]
    ending = "diverged" if run.is_diverged else "after the first run stopped"
    trace = _traces.line(
        (),
        [min(values[i], plot.top) for i in kept],
        replace(look, symbol="x", dash="dot"),
        name=name,
        hover=f"{group}, seed {run.seed} (trial {run.trial}), {ending}<br>%{{x:,.4~g}}: <b>%{{y:.4~g}}</b>",
        group=group,
        showlegend=bool(name) and plot.row == 1,
        width=1,
    )
    trace.update(opacity=0.6, mode="lines+markers" if run.is_diverged else "lines")
    if run.is_diverged:
        trace.marker.update(size=[0] * (len(kept) - 1) + [9], opacity=1.0, line={"width": 0})
    return CurveTrace(trace, positions_of([[run.record.ticks[i]] for i in kept]), plot.row)
