"""How far training moves the weights: from the start by batch size and layer, and in each epoch."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from bsopt.trial.record import StudyInfo, TrialRecord
from bsopt.visualization import _theme
from bsopt.visualization.study_data import Source, StudyData, load_all

__all__ = ["DistanceRow", "WeightDistanceInfo", "plot_weight_distance", "weight_distance_info"]

TITLE = "Distance of the weights from their start"
MEASUREMENT = "WeightDistance"
MAX_ROWS = 12


@dataclass(frozen=True, slots=True)
class DistanceRow:
    """The best measured trial of one batch size.

    Attributes:
        study: Its study's name.
        record: The trial.
        total: ‖θ − θ₀‖ at its end.
        per_layer: The same per layer.
        epochs: ‖θ_end − θ_start‖ of each epoch.
    """

    study: str
    record: TrialRecord
    total: float
    per_layer: Mapping[str, float]
    epochs: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class WeightDistanceInfo:
    """Rows by study, smallest batch size first."""

    info: StudyInfo
    rows: tuple[DistanceRow, ...]


def weight_distance_info(study: Source | Sequence[Source]) -> WeightDistanceInfo:
    """Return the distances of the best trial of each batch size in which they were measured."""
    sources = load_all(study)
    rows = [row for data in sources for row in _rows(data)]
    return WeightDistanceInfo(sources[0].info, tuple(rows[:MAX_ROWS]))


def plot_weight_distance(study: Source | Sequence[Source]) -> go.Figure:
    """Plot the distance from the start against the batch size, and the distance of each epoch.

    Chang & Pathak 2020, figures 10 and 12: at one learning rate larger batches make fewer updates and stay nearer to
    the start; at scaled learning rates the gap closes.
    """
    info = weight_distance_info(study)
    if not info.rows:
        return _theme.empty_figure(
            TITLE,
            "Distances of the weights were not measured. `measure: [weight_distance]` in the study file, or the "
            "callback bsopt.callbacks.WeightDistance, measures them.",
        )
    figure = make_subplots(rows=2, cols=1, vertical_spacing=0.17)
    _theme.style(figure, TITLE, height=680)
    names = list(dict.fromkeys(row.study for row in info.rows))
    for place, name in enumerate(names):
        _totals(figure, info, [row for row in info.rows if row.study == name], place, several=len(names) > 1)
    for place, row in enumerate(info.rows):
        _epochs(figure, info, row, place, several=len(names) > 1)
    axis = _theme.batch_size_axis([float(cast(int, row.record.batch_size)) for row in info.rows])
    figure.update_xaxes(**axis, row=1, col=1)
    figure.update_yaxes(title={"text": "distance from the start"}, rangemode="tozero", row=1, col=1)
    figure.update_xaxes(title={"text": "epoch"}, row=2, col=1)
    values = [value for row in info.rows for value in row.epochs if value > 0]
    ticks = _theme.log_ticks(values)
    figure.update_yaxes(
        title={"text": "distance of the epoch"},
        type="log",
        tickvals=ticks,
        ticktext=[f"{tick:g}" for tick in ticks],
        row=2,
        col=1,
    )
    return figure


def _rows(data: StudyData) -> list[DistanceRow]:
    found: dict[int, DistanceRow] = {}
    for record in sorted(data.completed, key=lambda r: data.sign * cast(float, r.value)):
        measured: Any = record.measurements.get(MEASUREMENT)
        if measured and math.isfinite(measured["total"]):
            row = DistanceRow(
                data.name, record, measured["total"], dict(measured["per_layer"]), tuple(measured["epochs"])
            )
            found.setdefault(cast(int, record.batch_size), row)
    return [found[size] for size in sorted(found)]


def _totals(
    figure: go.Figure, info: WeightDistanceInfo, rows: Sequence[DistanceRow], place: int, *, several: bool
) -> None:
    figure.add_trace(
        go.Scatter(
            x=[row.record.batch_size for row in rows],
            y=[row.total for row in rows],
            mode="lines+markers",
            name=_theme.escape(rows[0].study),
            showlegend=several,
            line={"color": _theme.INK if not several else _theme.colour_of(place), "width": 1.5},
            marker={"size": 10, "symbol": _theme.symbol_of(place)},
            text=[f"{_theme.describe(row.record, info.info)}<br>{_layers(row)}" for row in rows],
            hovertemplate="distance <b>%{y:.4~g}</b><br>%{text}<extra></extra>",
        ),
        row=1,
        col=1,
    )


def _layers(row: DistanceRow) -> str:
    """The layers that moved most, for the hover text."""
    far = sorted(row.per_layer.items(), key=lambda item: -item[1])[:8]
    return "<br>".join(f"{_theme.escape(name)}: {distance:.3g}" for name, distance in far)


def _epochs(figure: go.Figure, info: WeightDistanceInfo, row: DistanceRow, place: int, *, several: bool) -> None:
    step = max(1, len(row.epochs) // 200)
    label = f"batch size {row.record.batch_size}"
    figure.add_trace(
        go.Scatter(
            x=list(range(1, len(row.epochs) + 1))[::step],
            y=list(row.epochs)[::step],
            mode="lines+markers",
            name=_theme.escape(f"{row.study} · {label}") if several else label,
            line={"color": _theme.colour_of(place), "dash": _theme.dash_of(place)},
            marker={"size": 6, "symbol": _theme.symbol_of(place), "maxdisplayed": 12},
            hovertemplate=_theme.describe(row.record, info.info) + "<br>epoch %{x}: <b>%{y:.3~g}</b><extra></extra>",
        ),
        row=2,
        col=1,
    )
