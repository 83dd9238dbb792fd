"""How far training moves the weights: from the start by batch size and layer, and in each epoch."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import plotly.graph_objects as go

from bsopt.experiment.seed_statistics import spread
from bsopt.trial.record import StudyInfo, TrialRecord
from bsopt.visualization import _traces
from bsopt.visualization._axes import batch_size_axis, log_axis
from bsopt.visualization._size_colours import SizeColours, size_colours
from bsopt.visualization._theme import INK, Look, escape, look_of, stacked_figure, symbol_of
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
    colours: SizeColours


def weight_distance_info(study: Source | Sequence[Source]) -> WeightDistanceInfo:
    """Return the distances of the best trial of each batch size in which they were measured."""
    sources = load_all(study)
    rows = [row for data in sources for row in data.best_measured(partial(_row, data))]
    return WeightDistanceInfo(sources[0].info, tuple(rows[:MAX_ROWS]), size_colours(sources))


def plot_weight_distance(
    study: Source | Sequence[Source], *, batch_size: str | None = None, lr: str | None = None
) -> go.Figure:
    """Plot the distance from the start against the batch size, and the distance of each epoch.

    Chang & Pathak 2020, figures 10 and 12: at one learning rate larger batches make fewer updates and stay nearer to
    the start; at scaled learning rates the gap closes.

    Args:
        study: One or several.
        batch_size: The parameter's name; as for `load`.
        lr: The parameter's name; as for `load`.
    """
    sources = load_all(study, batch_size=batch_size, lr=lr)
    info = weight_distance_info(sources)
    if not info.rows:
        return _traces.empty_figure(
            TITLE,
            "Distances of the weights were not measured. `measure: [weight_distance]` in the study file, or the "
            "callback bsopt.callbacks.WeightDistance, measures them.",
        )
    figure = stacked_figure(TITLE, 2, height=680, spacing=0.17, shared_x=False)
    names = list(dict.fromkeys(row.study for row in info.rows))
    for place, name in enumerate(names):
        look = look_of(place) if len(names) > 1 else Look(INK, symbol_of(place))
        rows = [row for row in info.rows if row.study == name]
        figure.add_trace(_totals(info, rows, look, showlegend=len(names) > 1), row=1, col=1)
    for row in info.rows:
        figure.add_trace(
            _epochs(info, row, info.colours.look(row.record.batch_size), several=len(names) > 1), row=2, col=1
        )
    figure.update_xaxes(**batch_size_axis([float(cast(int, row.record.batch_size)) for row in info.rows]), row=1, col=1)
    figure.update_yaxes(title={"text": "distance from the start"}, rangemode="tozero", row=1, col=1)
    figure.update_xaxes(title={"text": "epoch"}, row=2, col=1)
    values = [value for row in info.rows for value in row.epochs if value > 0]
    figure.update_yaxes(**log_axis(values, title="distance of the epoch"), row=2, col=1)
    return figure


def _row(data: StudyData, record: TrialRecord) -> DistanceRow | None:
    measured: Any = record.measurements.get(MEASUREMENT)
    if not measured or not math.isfinite(measured["total"]):
        return None
    return DistanceRow(data.name, record, measured["total"], dict(measured["per_layer"]), tuple(measured["epochs"]))


def _totals(info: WeightDistanceInfo, rows: Sequence[DistanceRow], look: Look, *, showlegend: bool) -> go.Scatter:
    return _traces.line(
        [row.record.batch_size for row in rows],
        [row.total for row in rows],
        look,
        name=escape(rows[0].study),
        text=[f"{_traces.describe(row.record, info.info)}<br>{_layers(row)}" for row in rows],
        hover="distance <b>%{y:.4~g}</b><br>%{text}",
        showlegend=showlegend,
        width=1.5,
        size=10,
    )


def _layers(row: DistanceRow) -> str:
    """The layers that moved most, for the hover text."""
    far = sorted(row.per_layer.items(), key=lambda item: -item[1])[:8]
    return "<br>".join(f"{escape(name)}: {distance:.3g}" for name, distance in far)


def _epochs(info: WeightDistanceInfo, row: DistanceRow, look: Look, *, several: bool) -> go.Scatter:
    label = f"batch size {row.record.batch_size}"
    places = spread(0, len(row.epochs))
    return _traces.line(
        [place + 1 for place in places],
        [row.epochs[place] for place in places],
        look,
        name=escape(f"{row.study} · {label}") if several else label,
        hover=f"{_traces.describe(row.record, info.info)}<br>epoch %{{x}}: <b>%{{y:.3~g}}</b>",
        is_curve=True,
    )
