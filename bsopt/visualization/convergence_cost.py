"""What convergence costs at each batch size: seconds per epoch, and epochs and seconds to the best value."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import plotly.graph_objects as go

from bsopt.laws.estimate import Estimate
from bsopt.trial.record import StudyInfo, TrialRecord
from bsopt.visualization import _traces
from bsopt.visualization._axes import batch_size_axis, share_x_axis
from bsopt.visualization._theme import escape, look_of, stacked_figure
from bsopt.visualization.study_data import Source, StudyData, load_all, why_empty

__all__ = ["ConvergenceCostInfo", "CostRow", "convergence_cost_info", "plot_convergence_cost"]

TITLE = "What convergence costs"
_COSTS = {
    "seconds_per_epoch": "time per epoch [s]",
    "epochs": "epochs to the best",
    "seconds": "time to the best [s]",
}
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
        is_capped: Whether the best trial was still at its best when its budget ended: it might have gone on.
    """

    batch_size: int
    best: TrialRecord
    num_tuned: int
    seconds_per_epoch: float | None
    epochs: float | None
    seconds: float | None
    epochs_range: tuple[float, float] | None
    seconds_range: tuple[float, float] | None
    is_capped: bool = False


@dataclass(frozen=True, slots=True)
class ConvergenceCostInfo:
    """A study's batch sizes, smallest first."""

    info: StudyInfo
    rows: tuple[CostRow, ...]


def convergence_cost_info(study: Source) -> ConvergenceCostInfo:
    """Return the costs by batch size; where the best trial has no curve, its costs are None."""
    data = load_all(study)[0]
    rows = [_row(data, size, found) for size, found in data.by_batch_size.items()]
    return ConvergenceCostInfo(info=data.info, rows=tuple(rows))


def plot_convergence_cost(
    study: Source | Sequence[Source], *, batch_size: str | None = None, lr: str | None = None
) -> go.Figure:
    """Plot seconds per epoch, epochs to the best value and seconds to the best value against the batch size.

    Time is product of the two above it: large batches win only where they need not many more epochs.

    Args:
        study: One or several.
        batch_size: The parameter's name; as for `load`.
        lr: The parameter's name; as for `load`.
    """
    sources = load_all(study, batch_size=batch_size, lr=lr)
    infos = [convergence_cost_info(data) for data in sources]
    infos = [info for info in infos if any(row.epochs is not None or row.seconds_per_epoch for row in info.rows)]
    if not infos:
        return _traces.empty_figure(TITLE, why_empty(sources, "No trial with a learning curve has run to its end yet."))
    return _draw(infos)


def _row(data: StudyData, size: int, found: Sequence[TrialRecord]) -> CostRow:
    values = [data.rank(record) for record in found]
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
        is_capped=best.ends_at_best,
    )


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None


def _range(values: Sequence[float | None]) -> tuple[float, float] | None:
    known = [value for value in values if value is not None]
    return (min(known), max(known)) if known else None


def _draw(infos: Sequence[ConvergenceCostInfo]) -> go.Figure:
    figure = stacked_figure(TITLE, len(_COSTS), height=680)
    for place, info in enumerate(infos):
        for row, cost in enumerate(_COSTS, start=1):
            figure.add_trace(_line(info, place, cost, is_first=row == 1, several=len(infos) > 1), row=row, col=1)
    sizes = [float(row.batch_size) for info in infos for row in info.rows]
    share_x_axis(figure, batch_size_axis(sizes), rows=len(_COSTS))
    for row, title in enumerate(_COSTS.values(), start=1):
        figure.update_yaxes(title={"text": title}, rangemode="tozero", row=row, col=1)
    rows = [row for info in infos for row in info.rows]
    capped = "open: still best when the budget ended" if any(row.is_capped for row in rows) else None
    ranges = (
        "bars: from the least to the most of the near-best trials" if any(row.num_tuned > 1 for row in rows) else None
    )
    _traces.add_caption(figure, ranges, capped)
    return figure


def _line(info: ConvergenceCostInfo, place: int, cost: str, *, is_first: bool, several: bool) -> go.Scatter:
    look, name = look_of(place), escape(info.info.name)
    values: list[float | None] = [getattr(row, cost) for row in info.rows]
    ranges = [getattr(row, f"{cost}_range", None) for row in info.rows]
    spans = [_span(value, found) for value, found in zip(values, ranges, strict=True)]
    line = _traces.line(
        [row.batch_size for row in info.rows],
        values,
        look,
        name=name if several else "best trial, with the range of the near-best ones",
        text=[f"{_traces.describe(row.best, info.info)}<br>{row.num_tuned} near-best trials" for row in info.rows],
        hover="%{y:,.4~g}<br>%{text}",
        group=name,
        showlegend=is_first and (several or any(row.num_tuned > 1 for row in info.rows)),
        size=9,
        error_y=_traces.bars(spans, look.colour, is_shown=not is_first),
    )
    if cost != "seconds_per_epoch":
        line.marker.symbol = [f"{look.symbol}-open" if row.is_capped else look.symbol for row in info.rows]
    return line


def _span(value: float | None, found: tuple[float, float] | None) -> Estimate:
    if value is None:
        return Estimate(0.0, 0.0, 0.0)
    low, high = found or (value, value)
    return Estimate(value, low, high)
