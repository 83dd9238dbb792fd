"""Training and validation loss of an experiment's runs during training, one line per batch size."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from bsopt.errors import ConfigError
from bsopt.experiment.measurements import Experiment, ExperimentRun, train_loss
from bsopt.trial.record import Tick
from bsopt.visualization import _theme
from bsopt.visualization.experiment import _drawing
from bsopt.visualization.experiment.seeds import CurveOverSeeds, curve_over_seeds, spread
from bsopt.visualization.study_data import Source

__all__ = ["CurvesInfo", "SizeCurve", "experiment_curves_info", "plot_experiment_curves"]

Axis = Literal["epoch", "step", "samples", "seconds"]
_AXES: dict[Axis, str] = {
    "epoch": "epochs",
    "step": "optimizer updates",
    "samples": "samples seen",
    "seconds": "training time [s]",
}
_LOSSES = ("train", "validation")
_Positions: TypeAlias = dict[Axis, list[float | None]]
"""Where the points of one trace lie on each axis."""


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
class _Canvas:
    """Where a loss is drawn; diverged runs end at `top`."""

    figure: go.Figure
    experiment: Experiment
    name: str
    axis: Axis
    row: int
    top: float


def experiment_curves_info(study: Source, *, arm: str = "fixed_lr") -> CurvesInfo:
    """Return the mean curves of an arm.

    Raises:
        ConfigError: The arm is unknown, or the grid, which has several learning rates per batch size.
    """
    _drawing.check_arms([arm])
    if arm == "grid":
        raise ConfigError("the grid has several learning rates at each batch size: plot_learning_curves draws them.")
    experiment = _drawing.experiment_in(study)
    if experiment is None:
        return CurvesInfo(None, (), frozenset(), _drawing.NO_EXPERIMENT)
    message = _drawing.empty_arm(experiment, [arm])
    if message is not None:
        return CurvesInfo(experiment, (), frozenset(), message)
    runs = experiment.arm(arm)
    sizes = sorted({run.batch_size for run in runs})
    monitor = experiment.info.objective.monitor
    kept = [run for run in runs if not _drawing.is_diverged(run)]
    logs = frozenset(
        name for name in _LOSSES if _drawing.is_wide([v for run in kept for v in _curve(run, name, monitor)])
    )
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
        return _theme.empty_figure("Loss during training", found.message)
    title = f"Loss during training, {_drawing.arm_label(found.experiment.design, arm)}"
    rows = [name for name in _LOSSES if any(name in curve.losses for curve in found.sizes)]
    figure = make_subplots(rows=len(rows), cols=1, shared_xaxes=True, vertical_spacing=0.05)
    _theme.style(figure, title, height=320 * len(rows) + 100)
    positions: list[_Positions] = []
    for row, name in enumerate(rows, start=1):
        values = _values(found.sizes, name, found.experiment)
        canvas = _Canvas(figure, found.experiment, name, axis, row, top=max(values, default=math.inf))
        for curve in found.sizes:
            positions += _draw(canvas, curve, has_lr=arm == "scaled_lr")
        label = "training loss" if name == "train" else _theme.escape(found.experiment.info.objective.monitor)
        figure.update_yaxes(
            title={"text": label}, **_drawing.range_axis(values, is_log=name in found.logs), row=row, col=1
        )
    figure.update_xaxes(rangemode="tozero")
    figure.update_xaxes(title={"text": _AXES[axis]}, row=len(rows), col=1)
    choices = [(words, [trace[name] for trace in positions]) for name, words in _AXES.items()]
    _theme.add_axis_menu(figure, choices, list(_AXES).index(axis), row=len(rows))
    num_lost = sum(len(curve.diverged) for curve in found.sizes)
    counts = [len(curve.runs) for curve in found.sizes if curve.runs]
    _drawing.add_caption(
        figure,
        *(_drawing.mean_words(counts, [name in found.logs for name in rows], mark="bands") if counts else []),
        "thin lines: runs that went on after the first stopped" if _has_tails(found.sizes) else None,
        f"crosses: {num_lost} diverged, not in the mean" if num_lost else None,
    )
    return figure


def _size_curve(runs: Sequence[ExperimentRun], monitor: str, logs: frozenset[str]) -> SizeCurve:
    lost = tuple(run for run in runs if _drawing.is_diverged(run))
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


def _has_tails(sizes: Sequence[SizeCurve]) -> bool:
    return any(curve.tails for size in sizes for curve in size.losses.values())


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


def _draw(canvas: _Canvas, curve: SizeCurve, *, has_lr: bool) -> list[_Positions]:
    """Draw one batch size's band, mean, tails and diverged runs; return where each trace lies on every axis."""
    place = _drawing.size_place(canvas.experiment, curve.batch_size)
    group = f"batch size {curve.batch_size}"
    label = f"{group}, lr {_theme.number(curve.lr, 3)}" if has_lr else group
    found = []
    if canvas.name in curve.losses:
        mean = curve.losses[canvas.name]
        at = _positions([[run.record.ticks[i] for run in curve.runs.values()] for i in mean.places])
        before = len(canvas.figure.data)
        x = [value or 0.0 for value in at[canvas.axis]]
        _drawing.add_band(canvas.figure, x, mean.means, place=place, group=group, row=canvas.row)
        if len(canvas.figure.data) > before:
            found.append({axis: [*there, *reversed(there)] for axis, there in at.items()})
        canvas.figure.add_trace(_mean_line(canvas, mean, at, place, group, label), row=canvas.row, col=1)
        found.append(at)
        found += [_thin(canvas, curve.runs[seed], places, place, group) for seed, places in mean.tails.items()]
    for run in curve.diverged:
        is_named = not curve.runs and run is curve.diverged[0]  # else the mean stands in the legend
        places = spread(0, len(run.record.ticks))
        found.append(_thin(canvas, run, places, place, group, name=f"{label}, diverged" if is_named else None))
    return found


def _mean_line(canvas: _Canvas, mean: CurveOverSeeds, at: _Positions, place: int, group: str, label: str) -> go.Scatter:
    return go.Scatter(
        x=at[canvas.axis],
        y=[_drawing.rounded(point.value) for point in mean.means],
        mode="lines+markers",
        name=label,
        legendgroup=group,
        showlegend=canvas.row == 1,
        line={"color": _theme.colour_of(place), "width": 2.2, "dash": _theme.dash_of(place)},
        marker={"symbol": _theme.symbol_of(place), "size": 6, "maxdisplayed": 10},
        text=[f"{_theme.number(p.low, 3)} to {_theme.number(p.high, 3)}" for p in mean.means],
        hovertemplate=f"{label}<br>%{{x:,.4~g}}: <b>%{{y:.4~g}}</b> (%{{text}})<extra></extra>",
    )


def _thin(
    canvas: _Canvas, run: ExperimentRun, places: Sequence[int], place: int, group: str, *, name: str | None = None
) -> _Positions:
    """Draw a part of a single run as a thin line; where it diverged, with a cross at its end, inside the plot."""
    values = _curve(run, canvas.name, canvas.experiment.info.objective.monitor)
    kept = [i for i in places if math.isfinite(values[i])]
    at = _positions([[run.record.ticks[i]] for i in kept])
    is_lost = _drawing.is_diverged(run)
    ending = "diverged" if is_lost else "after the first run stopped"
    canvas.figure.add_trace(
        go.Scatter(
            x=at[canvas.axis],
            y=[_drawing.rounded(min(values[i], canvas.top)) for i in kept],
            mode="lines+markers" if is_lost else "lines",
            name=name,
            legendgroup=group,
            showlegend=name is not None and canvas.row == 1,
            opacity=0.6,
            line={"color": _theme.colour_of(place), "width": 1, "dash": "dot"},
            marker={
                "symbol": "x",
                "size": [0] * (len(kept) - 1) + [9] if is_lost else 0,
                "opacity": 1.0,
                "line": {"width": 0},
            },
            hovertemplate=f"{group}, seed {run.seed} (trial {run.trial}), {ending}"
            "<br>%{x:,.4~g}: <b>%{y:.4~g}</b><extra></extra>",
        ),
        row=canvas.row,
        col=1,
    )
    return at


def _positions(ticks: Sequence[Sequence[Tick]]) -> _Positions:
    """Return for each axis where points lie: the mean over the runs' ticks."""
    return {
        axis: [_drawing.rounded(math.fsum(float(getattr(t, axis)) for t in at) / len(at)) for at in ticks]
        for axis in _AXES
    }
