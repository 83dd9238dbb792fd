"""How far an experiment's runs travel in each epoch, and how the smallest batch size compares with the largest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import plotly.graph_objects as go

from bsopt.experiment.measurements import Experiment, ExperimentRun
from bsopt.experiment.seed_statistics import CurveOverSeeds, SeedMean, curve_over_seeds
from bsopt.visualization import _axes, _theme, _traces
from bsopt.visualization.experiment._arms import (
    experiment_or_reason,
    healthy_values,
    interval_words,
    look_of_size,
    mean_band,
)
from bsopt.visualization.study_data import Source

__all__ = ["EpochDistanceInfo", "experiment_epoch_distance_info", "plot_experiment_epoch_distance"]

TITLE = "Distance travelled in each epoch"


@dataclass(frozen=True, slots=True)
class EpochDistanceInfo:
    """What the figure shows.

    Attributes:
        experiment: The study's; None where it has none.
        sizes: Batch size -> ‖θ_end − θ_start‖ by epoch, geometric means over seeds.
        ratio: The smallest batch size's over the largest's, geometric means over the seeds that both have; None
            where they share none.
        message: Why there is nothing to show.
    """

    experiment: Experiment | None
    sizes: Mapping[int, CurveOverSeeds]
    ratio: CurveOverSeeds | None
    message: str


def experiment_epoch_distance_info(study: Source, *, arm: str = "fixed_lr") -> EpochDistanceInfo:
    """Return the distance of each epoch by batch size, and the ratio; runs that diverged are left out."""
    experiment = experiment_or_reason(study, [arm])
    if isinstance(experiment, str):
        return EpochDistanceInfo(None, {}, None, experiment)
    curves = healthy_values(experiment, arm, _epochs)
    if not curves:
        return EpochDistanceInfo(experiment, {}, None, "No ended run measured how far its weights travelled.")
    sizes = {size: curve_over_seeds(runs, is_log=True) for size, runs in curves.items()}
    return EpochDistanceInfo(experiment, sizes, _ratio(curves), "")


def plot_experiment_epoch_distance(study: Source, *, arm: str = "fixed_lr") -> go.Figure:
    """Plot ‖θ_end − θ_start‖ of each epoch by batch size, and the ratio of the smallest's to the largest's.

    Chang & Pathak 2020, figure 12. Means over seeds as far as all of them trained.

    Args:
        study: A study with an experiment.
        arm: Whose runs.

    Raises:
        ConfigError: The arm is unknown.
    """
    found = experiment_epoch_distance_info(study, arm=arm)
    if found.experiment is None or not found.sizes:
        return _traces.empty_figure(TITLE, found.message)
    rows = 1 if found.ratio is None else 2
    figure = _theme.stacked_figure(TITLE, rows, height=460 if rows == 1 else 640, spacing=0.06)
    for size, curve in found.sizes.items():
        _add(figure, curve, look_of_size(found.experiment, size), f"batch size {size}", row=1)
    means = [mean for curve in found.sizes.values() for mean in curve.means]
    figure.update_yaxes(title={"text": "distance of the epoch"}, **_axis(means), row=1, col=1)
    counts = [mean.num_seeds for curve in found.sizes.values() for mean in curve.means]
    if found.ratio is not None:
        ends = list(found.sizes)
        _add(figure, found.ratio, _theme.look_of(6), f"batch size {ends[0]} over {ends[-1]}", row=2)
        figure.add_hline(y=1.0, line={"color": _theme.INK, "dash": "dot", "width": 1}, row=2, col=1)
        axis = _axis(found.ratio.means)
        figure.update_yaxes(title={"text": f"ratio {ends[0]} : {ends[-1]}"}, **axis, row=2, col=1)
    _axes.share_x_axis(figure, {"title": {"text": "epoch"}, "rangemode": "tozero"}, rows=rows)
    _traces.add_caption(figure, interval_words(counts, mark="bands", is_log=True))
    return figure


def _epochs(run: ExperimentRun) -> list[float] | None:
    measured = run.record.measurements.get("WeightDistance") or {}
    found = [float(value) for value in measured.get("epochs") or []]
    return found if found and min(found) > 0 else None


def _ratio(curves: Mapping[int, Mapping[int, Sequence[float]]]) -> CurveOverSeeds | None:
    small, large = curves[min(curves)], curves[max(curves)]
    seeds = sorted(set(small) & set(large)) if len(curves) > 1 else []
    ratios = {seed: [a / b for a, b in zip(small[seed], large[seed], strict=False)] for seed in seeds}
    return replace(curve_over_seeds(ratios, is_log=True), tails={}) if ratios else None


def _axis(means: Sequence[SeedMean]) -> _axes.Axis:
    values = [mean.value for mean in means]
    return _axes.mean_axis(means, values, is_log=_axes.is_wide(values), from_zero=True)


def _add(figure: go.Figure, curve: CurveOverSeeds, look: _theme.Look, name: str, *, row: int) -> None:
    epochs = [place + 1 for place in curve.places]
    line = _traces.line(
        epochs,
        [mean.value for mean in curve.means],
        look,
        name=name,
        hover=f"{name}<br>epoch %{{x}}: <b>%{{y:.4~g}}</b> (%{{text}})",
        text=[_traces.span_text(mean) for mean in curve.means],
        group=name,
        is_curve=True,
    )
    for trace in (*mean_band(epochs, curve.means, look, group=name), line):
        figure.add_trace(trace, row=row, col=1)
