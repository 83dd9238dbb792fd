"""The best validation loss of an experiment's runs against their learning rate, one line per batch size."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import plotly.graph_objects as go

from bsopt.experiment.measurements import Experiment, ExperimentRun
from bsopt.experiment.seed_statistics import SeedMean, mean_over_seeds
from bsopt.units import format_number
from bsopt.visualization import _axes, _theme, _traces
from bsopt.visualization.experiment._arms import (
    experiment_or_reason,
    interval_words,
    look_of_size,
    lost_words,
    mean_text,
)
from bsopt.visualization.study_data import Source

__all__ = ["LrGridInfo", "LrPoint", "experiment_lr_info", "plot_experiment_lr"]

TITLE = "Best validation loss against the learning rate"


@dataclass(frozen=True, slots=True)
class LrPoint:
    """The runs at one batch size and learning rate, with the mean of their best values."""

    batch_size: int
    lr: float
    runs: tuple[ExperimentRun, ...]
    mean: SeedMean


@dataclass(frozen=True, slots=True)
class LrGridInfo:
    """What the figure shows.

    Attributes:
        experiment: The study's; None where it has none.
        sizes: Batch size -> its points, smallest learning rate first.
        is_log: Whether values lie decades apart: their means are geometric, on a log axis.
        message: Why there is nothing to show.
    """

    experiment: Experiment | None
    sizes: Mapping[int, tuple[LrPoint, ...]]
    is_log: bool
    message: str


def experiment_lr_info(study: Source) -> LrGridInfo:
    """Return the best validation losses of all designed runs, the grid's and the other arms'."""
    experiment = experiment_or_reason(study)
    if isinstance(experiment, str):
        return LrGridInfo(None, {}, is_log=False, message=experiment)
    groups: dict[tuple[int, str], list[ExperimentRun]] = {}
    for run in experiment.runs:
        if "best_val_loss" in run.measurements:
            groups.setdefault((run.batch_size, f"{run.lr:.6g}"), []).append(run)
    is_log = _axes.is_wide([run.measurements["best_val_loss"] for runs in groups.values() for run in runs])
    sizes: dict[int, list[LrPoint]] = {}
    for (size, _), runs in groups.items():
        mean = mean_over_seeds({run.seed: run.measurements["best_val_loss"] for run in runs}, is_log=is_log)
        sizes.setdefault(size, []).append(LrPoint(size, runs[0].lr, tuple(runs), mean))
    rates = {f"{point.lr:.6g}" for points in sizes.values() for point in points}
    if len(rates) < 2:
        message = "Runs at two learning rates at least are needed: `grid` in the study file's `experiment` block."
        return LrGridInfo(experiment, {}, is_log=False, message=message)
    ordered = {size: tuple(sorted(sizes[size], key=lambda point: point.lr)) for size in sorted(sizes)}
    return LrGridInfo(experiment, ordered, is_log=is_log, message="")


def plot_experiment_lr(study: Source) -> go.Figure:
    """Plot the best validation loss against the learning rate, a line per batch size, each one's best drawn large.

    Chang & Pathak 2020, figure 29.

    Args:
        study: A study with an experiment.
    """
    found = experiment_lr_info(study)
    if found.experiment is None or not found.sizes:
        return _traces.empty_figure(TITLE, found.message)
    sign = found.experiment.info.objective.metric_sign
    figure = _theme.new_figure(TITLE, height=480)
    rates = [point.lr for points in found.sizes.values() for point in points]
    octaves = max(1.0, math.log2(max(rates) / min(rates)))
    for place, (size, points) in enumerate(found.sizes.items()):
        shift = 2.0 ** (0.008 * octaves * (place - (len(found.sizes) - 1) / 2))
        best = min(range(len(points)), key=lambda i: sign * points[i].mean.value)
        look = look_of_size(found.experiment, size)
        figure.add_trace(_line(points, look, f"batch size {size}", shift=shift, best=best))
    figure.update_xaxes(**_axes.lr_axis(rates))
    means = [point.mean for points in found.sizes.values() for point in points]
    monitor = _theme.escape(found.experiment.info.objective.monitor)
    axis = _axes.mean_axis(means, [mean.value for mean in means], is_log=found.is_log, from_zero=False)
    figure.update_yaxes(title={"text": f"best {monitor}"}, **axis)
    counts = [point.mean.num_seeds for points in found.sizes.values() for point in points]
    lost = [run for points in found.sizes.values() for point in points for run in point.runs]
    _traces.add_caption(
        figure,
        interval_words(counts, is_log=found.is_log),
        "large: the best rate of its batch size",
        lost_words(lost),
    )
    return figure


def _line(points: Sequence[LrPoint], look: _theme.Look, name: str, *, shift: float, best: int) -> go.Scatter:
    lost = [sum(run.is_diverged for run in point.runs) for point in points]
    means = [point.mean for point in points]
    trace = _traces.line(
        [point.lr * shift for point in points],
        [mean.value for mean in means],
        look,
        name=name,
        hover=f"{name}<br>%{{text}}",
        text=[
            f"lr {format_number(point.lr, digits=3)}: {mean_text(point.mean)}"
            + (f"<br>{num} of {len(point.runs)} runs diverged" if num else "")
            for point, num in zip(points, lost, strict=True)
        ],
        error_y=_traces.bars(means, look.colour, is_shown=any(mean.num_seeds > 1 for mean in means)),
    )
    trace.marker.update(
        symbol=["x" if num else look.symbol for num in lost],
        size=[15 if i == best else (10 if num else 7) for i, num in enumerate(lost)],
        opacity=1.0,
        line={"width": 0},
    )
    return trace
