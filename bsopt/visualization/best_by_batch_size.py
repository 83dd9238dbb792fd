"""The best value that each batch size reached."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import plotly.graph_objects as go

from bsopt.trial.record import StudyInfo, TrialRecord
from bsopt.visualization import _theme
from bsopt.visualization.study_data import Source, StudyData, load_all

__all__ = ["BatchSizeBest", "BestByBatchSizeInfo", "best_by_batch_size_info", "plot_best_by_batch_size"]

TITLE = "Best value per batch size"


@dataclass(frozen=True, slots=True)
class BatchSizeBest:
    """One batch size: its best completed trial, and the values of all completed ones."""

    batch_size: int
    best: TrialRecord
    others: tuple[TrialRecord, ...]


@dataclass(frozen=True, slots=True)
class BestByBatchSizeInfo:
    """A study's batch sizes, smallest first."""

    info: StudyInfo
    rows: tuple[BatchSizeBest, ...]


def best_by_batch_size_info(study: Source) -> BestByBatchSizeInfo:
    """Return the completed trials of each batch size, best first."""
    data = load_all(study)[0]
    rows = []
    for size in data.batch_sizes:
        found = sorted((r for r in data.completed if r.batch_size == size), key=lambda r: _rank(data, r))
        if found:
            rows.append(BatchSizeBest(batch_size=size, best=found[0], others=tuple(found[1:])))
    return BestByBatchSizeInfo(info=data.info, rows=tuple(rows))


def plot_best_by_batch_size(study: Source | Sequence[Source]) -> go.Figure:
    """Plot the best value of each batch size, at its own best learning rate, and pale the other completed trials."""
    infos = [info for info in map(best_by_batch_size_info, load_all(study)) if info.rows]
    if not infos:
        return _theme.empty_figure(TITLE, "No trial has run to its end yet, so no batch size has a best value.")
    figure = _theme.new_figure(TITLE)
    for place, info in enumerate(infos):
        _draw(figure, info, place, several=len(infos) > 1)
    sizes = [float(row.batch_size) for info in infos for row in info.rows]
    figure.update_xaxes(**_theme.batch_size_axis(sizes))
    figure.update_yaxes(title={"text": _theme.value_label(infos[0].info)}, range=_value_range(infos))
    return figure


def _rank(data: StudyData, record: TrialRecord) -> float:
    return data.sign * cast(float, record.value)


def _value_range(infos: Sequence[BestByBatchSizeInfo]) -> tuple[float, float]:
    """The best values fill the axis; of the worse trials those that fit beside them are seen."""
    bests = [cast(float, row.best.value) for info in infos for row in info.rows]
    others = [cast(float, r.value) for info in infos for row in info.rows for r in row.others]
    sign = infos[0].info.objective.sign
    best, worst = min(sign * v for v in bests), max(sign * v for v in bests)
    limit = worst + 1.0 * (worst - best)
    top = max([worst, *(sign * v for v in others if sign * v <= limit)])
    margin = 0.08 * (top - best) or 0.05 * abs(best) or 1.0
    low, high = sorted((sign * (best - margin), sign * (top + margin)))
    return low, high


def _draw(figure: go.Figure, info: BestByBatchSizeInfo, place: int, *, several: bool) -> None:
    colour = _theme.colour_of(place)
    name = _theme.escape(info.info.name)
    others = [record for row in info.rows for record in row.others]
    if others:
        figure.add_trace(
            go.Scatter(
                x=[record.batch_size for record in others],
                y=[record.value for record in others],
                mode="markers",
                name="other completed trials",
                legendgroup=name,
                showlegend=not several,
                marker={"color": colour, "size": 6, "opacity": 0.4, "symbol": _theme.symbol_of(place)},
                text=[_theme.describe(record, info.info) for record in others] if len(others) <= 500 else None,
                hovertemplate="%{text}<extra></extra>" if len(others) <= 500 else None,
            )
        )
    figure.add_trace(
        go.Scatter(
            x=[row.batch_size for row in info.rows],
            y=[row.best.value for row in info.rows],
            mode="lines+markers",
            name=name if several else "best trial of the batch size",
            legendgroup=name,
            line={"color": colour, "width": 2, "dash": _theme.dash_of(place)},
            marker={"color": colour, "size": 10, "symbol": _theme.symbol_of(place)},
            text=[_theme.describe(row.best, info.info) for row in info.rows],
            hovertemplate="%{text}<extra></extra>",
        )
    )
