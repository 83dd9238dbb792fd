"""What convergence costs at each batch size: seconds per epoch, and epochs and seconds to the best value."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from bsopt.trial.record import StudyInfo, TrialRecord
from bsopt.visualization import _theme
from bsopt.visualization.study_data import Source, StudyData, load_all

__all__ = ["ConvergenceCostInfo", "CostRow", "convergence_cost_info", "plot_convergence_cost"]

TITLE = "What convergence costs"
CLOSE = 0.25
"""Trials count as tuned whose value is within this share of the way from their batch size's best to its median."""


@dataclass(frozen=True, slots=True)
class CostRow:
    """One batch size; the costs are those of its best trial, with the range of its tuned trials.

    Attributes:
        batch_size: Global, in samples.
        best: The best completed trial.
        num_tuned: Completed trials near the best, itself included.
        seconds_per_epoch: Of the best trial; None where it wasn't measured.
        epochs: Epochs to its best value.
        seconds: Seconds to its best value.
        epochs_range: Fewest and most epochs among the tuned trials.
        seconds_range: Fewest and most seconds among them.
    """

    batch_size: int
    best: TrialRecord
    num_tuned: int
    seconds_per_epoch: float | None
    epochs: float | None
    seconds: float | None
    epochs_range: tuple[float, float] | None
    seconds_range: tuple[float, float] | None


@dataclass(frozen=True, slots=True)
class ConvergenceCostInfo:
    """A study's batch sizes, smallest first."""

    info: StudyInfo
    rows: tuple[CostRow, ...]


def convergence_cost_info(study: Source) -> ConvergenceCostInfo:
    """Return the costs by batch size; where the best trial has no curve, its costs are None."""
    data = load_all(study)[0]
    rows = [_row(data, size) for size in data.batch_sizes]
    return ConvergenceCostInfo(info=data.info, rows=tuple(row for row in rows if row is not None))


def plot_convergence_cost(study: Source | Sequence[Source]) -> go.Figure:
    """Plot seconds per epoch, epochs to the best value and seconds to the best value against the batch size.

    Time is product of the two above it: large batches win only where they need not many more epochs.
    """
    infos = [convergence_cost_info(data) for data in load_all(study)]
    infos = [info for info in infos if any(row.epochs is not None or row.seconds_per_epoch for row in info.rows)]
    if not infos:
        return _theme.empty_figure(TITLE, "No trial with a learning curve has run to its end yet.")
    return _draw(infos)


def _row(data: StudyData, size: int) -> CostRow | None:
    found = sorted(
        (record for record in data.completed if record.batch_size == size),
        key=lambda record: data.sign * cast(float, record.value),
    )
    if not found:
        return None
    values = [data.sign * cast(float, record.value) for record in found]
    limit = values[0] + CLOSE * (float(np.median(values)) - values[0])
    tuned = [record for record, value in zip(found, values, strict=True) if value <= limit]
    best = found[0]
    return CostRow(
        batch_size=size,
        best=best,
        num_tuned=len(tuned),
        seconds_per_epoch=best.seconds_per_epoch,
        epochs=_finite(best.best.epoch) if best.best else None,
        seconds=_finite(best.best.seconds) if best.best else None,
        epochs_range=_range([_finite(r.best.epoch) for r in tuned if r.best]),
        seconds_range=_range([_finite(r.best.seconds) for r in tuned if r.best]),
    )


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None


def _range(values: Sequence[float | None]) -> tuple[float, float] | None:
    known = [value for value in values if value is not None]
    return (min(known), max(known)) if known else None


def _draw(infos: Sequence[ConvergenceCostInfo]) -> go.Figure:
    figure = make_subplots(rows=3, cols=1, shared_xaxes=True, vertical_spacing=0.05)
    _theme.style(figure, TITLE, height=680)
    for place, info in enumerate(infos):
        for row in (1, 2, 3):
            figure.add_trace(_line(info, place, row, several=len(infos) > 1), row=row, col=1)
    sizes = [float(row.batch_size) for info in infos for row in info.rows]
    axis = _theme.batch_size_axis(sizes)
    figure.update_xaxes(**{key: value for key, value in axis.items() if key != "title"})
    figure.update_xaxes(title=axis["title"], row=3, col=1)
    for row, title in enumerate(("time per epoch [s]", "epochs to the best", "time to the best [s]"), start=1):
        figure.update_yaxes(title={"text": title}, rangemode="tozero", row=row, col=1)
    return figure


def _line(info: ConvergenceCostInfo, place: int, row: int, *, several: bool) -> go.Scatter:
    key = ("seconds_per_epoch", "epochs", "seconds")[row - 1]
    ranges = [None] * len(info.rows) if row == 1 else [getattr(item, f"{key}_range") for item in info.rows]
    values = [getattr(item, key) for item in info.rows]
    pairs = list(zip(values, ranges, strict=True))
    return go.Scatter(
        x=[item.batch_size for item in info.rows],
        y=values,
        mode="lines+markers",
        name=_theme.escape(info.info.name) if several else "best trial, with the range of the near-best ones",
        legendgroup=_theme.escape(info.info.name),
        showlegend=row == 1 and (several or any(item.num_tuned > 1 for item in info.rows)),
        line={"color": _theme.colour_of(place), "dash": _theme.dash_of(place)},
        marker={"size": 9, "symbol": _theme.symbol_of(place)},
        error_y={
            "type": "data",
            "symmetric": False,
            "array": [r[1] - v if v is not None and r else 0 for v, r in pairs],
            "arrayminus": [v - r[0] if v is not None and r else 0 for v, r in pairs],
            "visible": row > 1,
            "thickness": 1.2,
            "color": _theme.faded(_theme.colour_of(place), 0.6),
        },
        text=[f"{_theme.describe(item.best, info.info)}<br>{item.num_tuned} near-best trials" for item in info.rows],
        hovertemplate="%{y:,.4~g}<br>%{text}<extra></extra>",
    )
