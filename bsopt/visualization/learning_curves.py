"""Learning curves of the trials against samples seen, steps, epochs or seconds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, cast

import numpy as np
import plotly.graph_objects as go

from bsopt.trial.record import StudyInfo, Tick, TrialRecord
from bsopt.visualization import _theme
from bsopt.visualization.study_data import Source, Status, StudyData, load_all, status_of

__all__ = ["Axis", "Curve", "LearningCurvesInfo", "learning_curves_info", "plot_learning_curves"]

TITLE = "Learning curves"
MAX_CURVES = 60
MAX_POINTS = 150
Axis = Literal["samples", "step", "epoch", "seconds"]
_AXES: dict[Axis, str] = {
    "samples": "samples seen",
    "step": "optimizer updates",
    "epoch": "epochs",
    "seconds": "training time [s]",
}


@dataclass(frozen=True, slots=True)
class Curve:
    """One trial's curve, thinned: its ticks, and whether it is the best of its batch size."""

    study: str
    record: TrialRecord
    status: Status
    ticks: tuple[Tick, ...]
    is_best_of_batch_size: bool


@dataclass(frozen=True, slots=True)
class LearningCurvesInfo:
    """What the figure shows.

    Attributes:
        info: The first study, for names and direction.
        curves: The best trial of every batch size, and a spread of the others from good to bad.
        num_left_out: Curves that aren't shown.
        batch_sizes: Batch sizes of the curves, smallest first; their place is their colour.
        value_range: What of the value axis is worth seeing: a diverged trial may not flatten all others.
        is_log: Whether that range is so wide that it needs a logarithmic axis.
    """

    info: StudyInfo
    curves: tuple[Curve, ...]
    num_left_out: int
    batch_sizes: tuple[int, ...]
    value_range: tuple[float, float] | None
    is_log: bool


def learning_curves_info(study: Source | Sequence[Source]) -> LearningCurvesInfo:
    """Return the curves worth showing, each with at most 150 points."""
    sources = load_all(study)
    found = [curve for data in sources for curve in _curves(data, share=MAX_CURVES // len(sources))]
    total = sum(1 for data in sources for record in data.records if _has_curve(record))
    return LearningCurvesInfo(
        info=sources[0].info,
        curves=tuple(found),
        num_left_out=total - len(found),
        batch_sizes=tuple(sorted({c.record.batch_size for c in found if c.record.batch_size})),
        value_range=_value_range(found, sources[0].metric_sign),
        is_log=sources[0].metric_sign > 0 and _theme.spans_decades(_calm_values(found)),
    )


def plot_learning_curves(study: Source | Sequence[Source], *, axis: Axis = "samples") -> go.Figure:
    """Plot the monitored metric during training; the best trial of each batch size stands out.

    The figure carries all four axes and buttons to change between them; `axis` is the one it opens with.
    """
    info = learning_curves_info(study)
    if not info.curves:
        return _theme.empty_figure(TITLE, "No trial has been validated yet, so there is no curve to show.")
    return _draw(info, axis, several=len(load_all(study)) > 1)


def _has_curve(record: TrialRecord) -> bool:
    return any(math.isfinite(tick.value) for tick in record.ticks)


def _curves(data: StudyData, *, share: int) -> list[Curve]:
    records = sorted((r for r in data.records if _has_curve(r)), key=lambda r: _rank(r, data.sign))
    best_of: dict[int | None, int] = {}
    for record in records:
        if status_of(record) is Status.COMPLETE:
            best_of.setdefault(record.batch_size, record.number)
    bests = [record for record in records if record.number in best_of.values()][:share]
    rest = [record for record in records if record.number not in best_of.values()]
    room = max(0, share - len(bests))
    if len(rest) > room:
        rest = [rest[i] for i in np.linspace(0, len(rest) - 1, room).astype(int)] if room else []
    # The best ones are drawn last, on top; within them by batch size, which orders the legend.
    bests.sort(key=lambda record: record.batch_size or 0)
    return [
        Curve(
            study=data.name,
            record=record,
            status=status_of(record),
            ticks=_thinned(record.ticks),
            is_best_of_batch_size=record.number in best_of.values(),
        )
        for record in [*rest, *bests]
    ]


def _rank(record: TrialRecord, sign: float) -> float:
    return sign * record.value if record.value is not None and math.isfinite(record.value) else math.inf


def _thinned(ticks: Sequence[Tick]) -> tuple[Tick, ...]:
    if len(ticks) <= MAX_POINTS:
        return tuple(ticks)
    # Evenly in the logarithm of progress, as curves move early; first and last always stay.
    places = np.unique(np.geomspace(1, len(ticks), MAX_POINTS).round().astype(int)) - 1
    return tuple(ticks[i] for i in places)


def _calm_values(curves: Sequence[Curve]) -> list[float]:
    """The finite values of the curves that didn't diverge; of all where each did."""
    calm = [c for c in curves if c.status is not Status.DIVERGED] or list(curves)
    return [tick.value for c in calm for tick in c.ticks if math.isfinite(tick.value)]


def _value_range(curves: Sequence[Curve], sign: float) -> tuple[float, float] | None:
    values = [sign * value for value in _calm_values(curves)]
    if not values:
        return None
    if sign > 0 and _theme.spans_decades(values):
        return min(values) / 1.2, 1.2 * float(np.quantile(values, 0.98))
    best, typical, worst = min(values), float(np.quantile(values, 0.9)), max(values)
    top = min(worst, typical + 1.0 * (typical - best))
    margin = 0.05 * (top - best) or 0.05 * abs(best) or 1.0
    low, high = sorted((sign * (best - margin), sign * (top + margin)))
    return low, high


def _draw(info: LearningCurvesInfo, axis: Axis, *, several: bool) -> go.Figure:
    figure = _theme.new_figure(TITLE, height=480)
    named: set[str] = set()
    shown = [curve for curve in info.curves if _any_finite(curve, axis)] or list(info.curves)
    for curve in shown:
        size = curve.record.batch_size
        place = info.batch_sizes.index(size) if size in info.batch_sizes else 0
        label = f"batch size {size}" if size else f"trial {curve.record.number}"
        group = _theme.escape(f"{curve.study} · {label}" if several else label)
        figure.add_trace(_line(info, curve, axis, place, group, showlegend=curve.is_best_of_batch_size))
        if curve.is_best_of_batch_size:
            named.add(group)
    if not named:  # nothing completed: let the pruned ones stand in the legend
        for trace in figure.data:
            trace.showlegend, trace.line.width, trace.opacity = trace.legendgroup not in named, 2, 0.9
            named.add(trace.legendgroup)
    if info.num_left_out:
        _theme.add_sentence(figure, f"{info.num_left_out:,} more trials are not drawn")
    label = _theme.escape(info.info.objective.monitor)
    better = "lower" if info.info.objective.direction == "minimize" else "higher"
    figure.update_yaxes(
        title={"text": f"{label} ({better} is better)"}, **_theme.value_axis(info.value_range, is_log=info.is_log)
    )
    figure.update_xaxes(title={"text": _AXES[axis]}, rangemode="tozero")
    _axis_buttons(figure, shown, axis)
    return figure


def _line(
    info: LearningCurvesInfo, curve: Curve, axis: Axis, place: int, group: str, *, showlegend: bool
) -> go.Scatter:
    best = curve.is_best_of_batch_size
    text = _theme.describe(curve.record, info.info)
    return go.Scatter(
        x=_positions(curve, axis),
        y=[_rounded(tick.value) for tick in curve.ticks],
        mode="lines+markers" if best or len(curve.ticks) == 1 else "lines",
        name=group,
        legendgroup=group,
        showlegend=showlegend,
        opacity=1.0 if best else 0.35,
        line={
            "color": _theme.colour_of(place),
            "width": 2.5 if best else 1,
            "dash": _theme.dash_of(place) if best else ("solid" if curve.status is Status.COMPLETE else "dot"),
        },
        marker={"symbol": _theme.symbol_of(place), "size": 6, "maxdisplayed": 12},
        hovertemplate=text + "<br>%{x:,.4~g}: <b>%{y:.4~g}</b><extra></extra>",
    )


def _positions(curve: Curve, axis: Axis) -> list[float | None]:
    return [_rounded(float(cast(float, getattr(tick, axis)))) for tick in curve.ticks]


def _rounded(value: float) -> float | None:
    return float(f"{value:.6g}") if math.isfinite(value) else None


def _any_finite(curve: Curve, axis: Axis) -> bool:
    return any(position is not None for position in _positions(curve, axis))


def _axis_buttons(figure: go.Figure, curves: Sequence[Curve], axis: Axis) -> None:
    axes = [name for name in _AXES if all(_any_finite(curve, name) for curve in curves)]
    if len(axes) < 2:
        return
    choices = [(_AXES[name], [_positions(curve, name) for curve in curves]) for name in axes]
    _theme.add_axis_menu(figure, choices, axes.index(axis) if axis in axes else 0)
