"""Value against learning rate, one line per batch size."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import plotly.graph_objects as go

from bsopt.trial.record import StudyInfo, TrialRecord
from bsopt.visualization import _theme
from bsopt.visualization.study_data import Source, Status, StudyData, is_placed, load_all, status_of

__all__ = ["LrSlice", "LrSliceInfo", "lr_slice_info", "plot_lr_slice"]

TITLE = "Value against learning rate"
MAX_LINES = 14


@dataclass(frozen=True, slots=True)
class LrSlice:
    """Trials of one batch size by rising learning rate, and the learning rates at which it diverged."""

    study: str
    batch_size: int
    records: tuple[TrialRecord, ...]
    diverged: tuple[TrialRecord, ...]


@dataclass(frozen=True, slots=True)
class LrSliceInfo:
    """The lines, smallest batch size first, and the range of values worth seeing, on a log axis where it is wide."""

    info: StudyInfo
    slices: tuple[LrSlice, ...]
    num_left_out: int
    value_range: tuple[float, float] | None
    is_log: bool


def lr_slice_info(study: Source | Sequence[Source]) -> LrSliceInfo:
    """Return the trials by batch size; of very many batch sizes, those with the most trials."""
    sources = load_all(study)
    slices = [item for data in sources for item in _slices(data)]
    kept = sorted(slices, key=lambda item: -len(item.records))[:MAX_LINES]
    kept.sort(key=lambda item: (item.batch_size, item.study))
    return LrSliceInfo(
        info=sources[0].info,
        slices=tuple(kept),
        num_left_out=len(slices) - len(kept),
        value_range=_value_range(kept, sources[0].sign),
        is_log=sources[0].sign > 0 and _theme.spans_decades(_values(kept, 1.0)),
    )


def plot_lr_slice(study: Source | Sequence[Source]) -> go.Figure:
    """Plot the value against the learning rate, a line through the best trial at each rate per batch size.

    Filled markers ran to their end, open ones were pruned; a cross on the upper edge is a learning rate at which
    training diverged.
    """
    info = lr_slice_info(study)
    if not any(item.records for item in info.slices):
        return _theme.empty_figure(TITLE, "No trial with a learning rate and a value has finished yet.")
    return _draw(info, several=len(load_all(study)) > 1)


def _slices(data: StudyData) -> list[LrSlice]:
    lost = [r for r in data.records if is_placed(r) and status_of(r) is Status.DIVERGED]
    return [
        LrSlice(
            study=data.name,
            batch_size=size,
            records=tuple(sorted((r for r in data.valued if r.batch_size == size), key=lambda r: cast(float, r.lr))),
            diverged=tuple(r for r in lost if r.batch_size == size),
        )
        for size in data.batch_sizes
        if any(r.batch_size == size for r in [*data.valued, *lost])
    ]


def _values(slices: Sequence[LrSlice], sign: float) -> list[float]:
    return sorted(sign * cast(float, record.value) for item in slices for record in item.records)


def _value_range(slices: Sequence[LrSlice], sign: float) -> tuple[float, float] | None:
    values = _values(slices, sign)
    if not values:
        return None
    if sign > 0 and _theme.spans_decades(values):
        return values[0] / 1.2, 1.2 * values[-1]
    best, typical = values[0], values[math.floor(0.85 * (len(values) - 1))]
    top = min(values[-1], best + 2.0 * (typical - best) or values[-1])
    margin = 0.06 * (top - best) or 0.06 * abs(best) or 1.0
    low, high = sorted((sign * (best - margin), sign * (top + 2 * margin)))
    return low, high


def _draw(info: LrSliceInfo, *, several: bool) -> go.Figure:
    figure = _theme.new_figure(TITLE)
    rates: list[float] = []
    for place, item in enumerate(info.slices):
        rates += [cast(float, record.lr) for record in [*item.records, *item.diverged]]
        name = _theme.escape(f"{item.study} · {item.batch_size}") if several else f"{item.batch_size}"
        for is_pruned in (False, True):
            points = _points(info, item, place, name, is_pruned=is_pruned)
            if points.x:
                figure.add_trace(points)
        if item.diverged and info.value_range is not None:
            figure.add_trace(_crosses(info, item, place, name, showlegend=not item.records))
    figure.update_layout(legend={"title": {"text": "batch size "}})
    figure.update_xaxes(**_theme.lr_axis(rates))
    figure.update_yaxes(
        title={"text": _theme.value_label(info.info)}, **_theme.value_axis(info.value_range, is_log=info.is_log)
    )
    return figure


def _points(info: LrSliceInfo, item: LrSlice, place: int, name: str, *, is_pruned: bool) -> go.Scatter:
    records = [r for r in item.records if (status_of(r) is not Status.COMPLETE) == is_pruned]
    many = len(item.records) > 60
    symbol = _theme.symbol_of(place)
    return go.Scatter(
        x=[record.lr for record in records],
        y=[record.value for record in records],
        # A pruned trial saw fewer samples: its value doesn't belong on the line.
        mode="markers" if many or is_pruned else "lines+markers",
        name=name,
        legendgroup=name,
        showlegend=not is_pruned or len(records) == len(item.records),
        line={"color": _theme.colour_of(place), "width": 1.5, "dash": _theme.dash_of(place)},
        marker={
            "symbol": f"{symbol}-open" if is_pruned else symbol,
            "size": 5 if many else 8,
            "color": _theme.colour_of(place),
        },
        text=[_theme.describe(record, info.info) for record in records],
        hovertemplate="%{text}<extra></extra>",
    )


def _crosses(info: LrSliceInfo, item: LrSlice, place: int, name: str, *, showlegend: bool) -> go.Scatter:
    assert info.value_range is not None
    edge = info.value_range[1] if info.info.objective.value_direction == "minimize" else info.value_range[0]
    return go.Scatter(
        x=[record.lr for record in item.diverged],
        y=[edge] * len(item.diverged),
        mode="markers",
        name=name,
        legendgroup=name,
        showlegend=showlegend,
        cliponaxis=False,
        marker={"symbol": "x-thin", "size": 8, "line": {"width": 2, "color": _theme.colour_of(place)}},
        text=[_theme.describe(record, info.info) for record in item.diverged],
        hovertemplate="%{text}<extra></extra>",
    )
