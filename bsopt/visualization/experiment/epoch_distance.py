"""How far an experiment's runs travel in each epoch, and how the smallest batch size compares with the largest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from bsopt.experiment.measurements import Experiment, ExperimentRun
from bsopt.visualization import _theme
from bsopt.visualization.experiment import _drawing
from bsopt.visualization.experiment.seeds import CurveOverSeeds, SeedMean, curve_over_seeds, interval_words
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
    _drawing.check_arms([arm])
    experiment = _drawing.experiment_in(study)
    if experiment is None:
        return EpochDistanceInfo(None, {}, None, _drawing.NO_EXPERIMENT)
    message = _drawing.empty_arm(experiment, [arm])
    if message is not None:
        return EpochDistanceInfo(experiment, {}, None, message)
    curves: dict[int, dict[int, Sequence[float]]] = {}
    for run in experiment.arm(arm):
        found = _epochs(run)
        if found and min(found) > 0 and not _drawing.is_diverged(run):
            curves.setdefault(run.batch_size, {})[run.seed] = found
    if not curves:
        return EpochDistanceInfo(experiment, {}, None, "No ended run measured how far its weights travelled.")
    return EpochDistanceInfo(
        experiment, {size: curve_over_seeds(curves[size], is_log=True) for size in sorted(curves)}, _ratio(curves), ""
    )


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
        return _theme.empty_figure(TITLE, found.message)
    rows = 1 if found.ratio is None else 2
    figure = make_subplots(rows=rows, cols=1, shared_xaxes=True, vertical_spacing=0.06)
    _theme.style(figure, TITLE, height=460 if rows == 1 else 640)
    for size, curve in found.sizes.items():
        _line(figure, curve, _drawing.size_place(found.experiment, size), f"batch size {size}", row=1)
    means = [mean for curve in found.sizes.values() for mean in curve.means]
    figure.update_yaxes(title={"text": "distance of the epoch"}, **_axis(means), row=1, col=1)
    counts = [mean.num_seeds for curve in found.sizes.values() for mean in curve.means]
    if found.ratio is not None:
        ends = list(found.sizes)
        _line(figure, found.ratio, 6, f"batch size {ends[0]} over {ends[-1]}", row=2)
        figure.add_hline(y=1.0, line={"color": _theme.INK, "dash": "dot", "width": 1}, row=2, col=1)
        axis = _axis(found.ratio.means)
        figure.update_yaxes(title={"text": f"ratio {ends[0]} : {ends[-1]}"}, **axis, row=2, col=1)
    figure.update_xaxes(rangemode="tozero")
    figure.update_xaxes(title={"text": "epoch"}, row=rows, col=1)
    _drawing.add_caption(figure, interval_words(counts, mark="bands", is_log=True))
    return figure


def _epochs(run: ExperimentRun) -> list[float]:
    measured = run.record.measurements.get("WeightDistance") or {}
    return [float(value) for value in measured.get("epochs") or []]


def _ratio(curves: Mapping[int, Mapping[int, Sequence[float]]]) -> CurveOverSeeds | None:
    small, large = curves[min(curves)], curves[max(curves)]
    seeds = sorted(set(small) & set(large)) if len(curves) > 1 else []
    ratios = {seed: [a / b for a, b in zip(small[seed], large[seed], strict=False)] for seed in seeds}
    return replace(curve_over_seeds(ratios, is_log=True), tails={}) if ratios else None


def _axis(means: Sequence[SeedMean]) -> dict[str, Any]:
    values = [mean.value for mean in means]
    return _drawing.value_axis(means, values, is_log=_drawing.is_wide(values), from_zero=True)


def _line(figure: go.Figure, curve: CurveOverSeeds, place: int, name: str, *, row: int) -> None:
    x = [place + 1.0 for place in curve.places]
    _drawing.add_band(figure, x, curve.means, place=place, group=name, row=row)
    figure.add_trace(
        go.Scatter(
            x=x,
            y=[_drawing.rounded(mean.value) for mean in curve.means],
            mode="lines+markers",
            name=name,
            legendgroup=name,
            line={"color": _theme.colour_of(place), "width": 2, "dash": _theme.dash_of(place)},
            marker={"size": 6, "symbol": _theme.symbol_of(place), "maxdisplayed": 10},
            text=[f"{_theme.number(mean.low, 3)} to {_theme.number(mean.high, 3)}" for mean in curve.means],
            hovertemplate=f"{name}<br>epoch %{{x}}: <b>%{{y:.4~g}}</b> (%{{text}})<extra></extra>",
        ),
        row=row,
        col=1,
    )
