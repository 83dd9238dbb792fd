"""Learning curves of the trials against samples seen, steps, epochs or seconds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

import numpy as np
import plotly.graph_objects as go

from bsopt.experiment.seed_statistics import spread
from bsopt.trial.record import StudyInfo, Tick, TrialRecord
from bsopt.visualization import _traces
from bsopt.visualization._axes import LABEL_WIDTH, is_wide, share_x_axis, value_axis, worth_seeing
from bsopt.visualization._size_colours import SizeColours, size_colours
from bsopt.visualization._theme import escape, new_figure
from bsopt.visualization.study_data import Source, Status, StudyData, load_all, spread_evenly, status_of, why_empty

__all__ = [
    "AXES",
    "Axis",
    "Curve",
    "CurveTrace",
    "LearningCurvesInfo",
    "Positions",
    "draw_curves",
    "learning_curves_info",
    "plot_learning_curves",
    "positions_of",
]

TITLE = "Learning curves"
MAX_CURVES = 60
MAX_POINTS = 150
Axis: TypeAlias = Literal["samples", "step", "epoch", "seconds"]
AXES: dict[Axis, str] = {
    "samples": "samples seen",
    "step": "optimizer updates",
    "epoch": "epochs",
    "seconds": "training time [s]",
}
Positions: TypeAlias = dict[Axis, list[float | None]]
"""Where the points of a curve lie on each axis."""


@dataclass(frozen=True, slots=True)
class Curve:
    """One trial's curve, thinned: its ticks, and whether it is the best of its batch size."""

    study: str
    record: TrialRecord
    status: Status
    ticks: tuple[Tick, ...]
    is_best_of_batch_size: bool


@dataclass(frozen=True, slots=True)
class CurveTrace:
    """A curve as it is drawn: a trace without x, and where its points lie on each axis."""

    trace: go.Scatter
    positions: Positions
    row: int = 1


@dataclass(frozen=True, slots=True)
class LearningCurvesInfo:
    """What the figure shows.

    Attributes:
        info: The first study, for names and direction.
        curves: The best trial of every batch size, and a spread of the others from good to bad.
        num_left_out: Curves that aren't shown.
        colours: Of the batch sizes.
        value_range: What of the value axis is worth seeing: a diverged trial may not flatten all others.
        is_log: Whether that range is so wide that it needs a logarithmic axis.
        is_counted: Whether it is known what the reports of every study are counted in; else there is one axis.
    """

    info: StudyInfo
    curves: tuple[Curve, ...]
    num_left_out: int
    colours: SizeColours
    value_range: tuple[float, float] | None
    is_log: bool
    is_counted: bool = True


def learning_curves_info(study: Source | Sequence[Source]) -> LearningCurvesInfo:
    """Return the curves worth showing, each with at most 150 points."""
    sources = load_all(study)
    found = [curve for data in sources for curve in _curves(data, share=MAX_CURVES // len(sources))]
    total = sum(1 for data in sources for record in data.records if _has_curve(record))
    sign = sources[0].info.objective.metric_sign
    return LearningCurvesInfo(
        info=sources[0].info,
        curves=tuple(found),
        num_left_out=total - len(found),
        colours=size_colours(sources),
        value_range=_value_range(found, sign),
        is_log=sign > 0 and is_wide(_calm_values(found)),
        is_counted=all(data.info.step_unit is not None for data in sources),
    )


def plot_learning_curves(
    study: Source | Sequence[Source], *, axis: Axis = "samples", batch_size: str | None = None, lr: str | None = None
) -> go.Figure:
    """Plot the monitored metric during training; the best trial of each batch size stands out.

    The figure carries all four axes and buttons to change between them; `axis` is the one it opens with.

    Args:
        study: One or several.
        axis: The one that the figure opens with.
        batch_size: The parameter's name; as for `load`.
        lr: The parameter's name; as for `load`.
    """
    sources = load_all(study, batch_size=batch_size, lr=lr)
    info = learning_curves_info(sources)
    if not info.curves:
        return _traces.empty_figure(
            TITLE, why_empty(sources, "No trial has been validated yet, so there is no curve to show.")
        )
    return _draw(info, axis, several=len(sources) > 1)


def draw_curves(figure: go.Figure, curves: Sequence[CurveTrace], axis: Axis, *, order: Sequence[Axis]) -> None:
    """Draw curves into their plots of the figure, with a menu of the axes that all of them have.

    Args:
        figure: Of one or more plots above each other.
        curves: In the order in which they are drawn.
        axis: The axis that the figure opens with.
        order: Of the axes in the menu.
    """
    for curve in curves:
        curve.trace.x = curve.positions[axis]
        figure.add_trace(curve.trace, row=curve.row, col=1)
    rows = max(curve.row for curve in curves)
    share_x_axis(figure, {"title": {"text": AXES[axis]}, "rangemode": "tozero"}, rows=rows)
    known = [name for name in order if all(_is_placed(curve.positions, name) for curve in curves)]
    if len(known) > 1:
        choices = [(AXES[name], [curve.positions[name] for curve in curves]) for name in known]
        _traces.add_axis_menu(figure, choices, known.index(axis) if axis in known else 0, row=rows)


def positions_of(ticks: Sequence[Sequence[Tick]]) -> Positions:
    """Return where points lie on each axis: the mean over the ticks that each point stands for."""
    return {
        axis: [_traces.rounded(math.fsum(float(getattr(t, axis)) for t in at) / len(at)) for at in ticks]
        for axis in AXES
    }


def _has_curve(record: TrialRecord) -> bool:
    return any(math.isfinite(tick.value) for tick in record.ticks)


def _curves(data: StudyData, *, share: int) -> list[Curve]:
    records = sorted((r for r in data.records if _has_curve(r)), key=data.rank)
    firsts = (next(filter(_has_curve, found), None) for found in data.by_batch_size.values())
    numbers = {record.number for record in firsts if record is not None}
    bests = [record for record in records if record.number in numbers][:share]
    rest = [record for record in records if record.number not in numbers]
    rest = spread_evenly(rest, max(0, share - len(bests)))
    # The best ones are drawn last, on top; within them by batch size, which orders the legend.
    bests.sort(key=lambda record: record.batch_size or 0)
    return [
        Curve(
            study=data.name,
            record=record,
            status=status_of(record),
            ticks=tuple(record.ticks[i] for i in spread(0, len(record.ticks), most=MAX_POINTS)),
            is_best_of_batch_size=record.number in numbers,
        )
        for record in [*rest, *bests]
    ]


def _calm_values(curves: Sequence[Curve]) -> list[float]:
    """The finite values of the curves that stand out; without them of those that didn't diverge, or of all."""
    calm = [c for c in curves if c.is_best_of_batch_size]
    calm = calm or [c for c in curves if c.status is not Status.DIVERGED] or list(curves)
    return [tick.value for c in calm for tick in c.ticks if math.isfinite(tick.value)]


def _value_range(curves: Sequence[Curve], sign: float) -> tuple[float, float] | None:
    values = _calm_values(curves)
    if sign > 0 and is_wide(values):
        return min(values) / 1.2, 1.2 * float(np.quantile(values, 0.98))
    return worth_seeing(values, sign)


def _draw(info: LearningCurvesInfo, axis: Axis, *, several: bool) -> go.Figure:
    figure = new_figure(TITLE, height=480)
    drawn = [_trace(info, curve, several=several) for curve in info.curves]
    drawn = [curve for curve in drawn if _is_placed(curve.positions, axis)] or drawn
    if not any(curve.trace.showlegend for curve in drawn):
        _name_each_group([curve.trace for curve in drawn])
    if info.is_counted:
        draw_curves(figure, drawn, axis, order=tuple(AXES))
        _traces.add_caption(figure, "by samples seen and by epochs, all trials are compared fairly")
    else:
        draw_curves(figure, drawn, "step", order=())
        figure.update_xaxes(title={"text": "step that was reported"})
    if info.num_left_out:
        _traces.add_sentence(figure, f"{info.num_left_out:,} more trials are not drawn")
    objective = info.info.objective
    better = "lower" if objective.direction == "minimize" else "higher"
    label = _traces.wrapped(f"{objective.monitor} ({better} is better)", LABEL_WIDTH)
    figure.update_yaxes(title={"text": label}, **value_axis(info.value_range, is_log=info.is_log))
    return figure


def _trace(info: LearningCurvesInfo, curve: Curve, *, several: bool) -> CurveTrace:
    """Return a trial's curve: the best of its batch size stands out, the others are pale and not in the legend."""
    size, is_best = curve.record.batch_size, curve.is_best_of_batch_size
    look = info.colours.look(size)
    if not is_best:
        look = replace(look, dash="solid" if curve.status is Status.COMPLETE else "dot")
    label = f"batch size {size}" if size else f"trial {curve.record.number}"
    name = escape(f"{curve.study} · {label}" if several else label)
    trace = _traces.line(
        (),
        [tick.value for tick in curve.ticks],
        look,
        name=name,
        hover=_traces.describe(curve.record, info.info) + "<br>%{x:,.4~g}: <b>%{y:.4~g}</b>",
        group=name,
        showlegend=is_best,
        width=2.5 if is_best else 1,
        is_curve=True,
    )
    if not is_best:
        trace.update(opacity=0.35, mode="lines+markers" if len(curve.ticks) == 1 else "lines")
    return CurveTrace(trace, positions_of([[tick] for tick in curve.ticks]))


def _name_each_group(traces: Sequence[go.Scatter]) -> None:
    """Where no trial was completed the pruned ones stand in the legend."""
    named: set[str] = set()
    for trace in traces:
        trace.update(showlegend=trace.legendgroup not in named, opacity=0.9, line={"width": 2})
        named.add(trace.legendgroup)


def _is_placed(positions: Positions, axis: Axis) -> bool:
    return any(position is not None for position in positions[axis])
