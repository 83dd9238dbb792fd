"""The best value that each batch size reached."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import plotly.graph_objects as go

from bsopt.trial.record import StudyInfo, TrialRecord
from bsopt.visualization import _traces
from bsopt.visualization._axes import (
    Axis,
    batch_size_axis,
    beyond,
    fitting_axis,
    is_wide,
    value_axis,
    value_label,
    worth_seeing,
)
from bsopt.visualization._theme import escape, look_of, new_figure
from bsopt.visualization.study_data import Source, load_all, why_empty

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
    """A study's batch sizes, smallest first; where they are very many, one for each doubling."""

    info: StudyInfo
    rows: tuple[BatchSizeBest, ...]
    is_grouped: bool = False


def best_by_batch_size_info(study: Source) -> BestByBatchSizeInfo:
    """Return the completed trials of each batch size, best first."""
    data = load_all(study)[0]
    rows = [BatchSizeBest(size, best=found[0], others=tuple(found[1:])) for size, found in data.by_batch_size.items()]
    is_grouped = any(record.batch_size != row.batch_size for row in rows for record in row.others)
    return BestByBatchSizeInfo(info=data.info, rows=tuple(rows), is_grouped=is_grouped)


def plot_best_by_batch_size(
    study: Source | Sequence[Source], *, batch_size: str | None = None, lr: str | None = None
) -> go.Figure:
    """Plot the best value of each batch size, at its own best learning rate, and pale the other completed trials.

    Args:
        study: One or several.
        batch_size: The parameter's name; as for `load`.
        lr: The parameter's name; as for `load`.
    """
    sources = load_all(study, batch_size=batch_size, lr=lr)
    infos = [info for info in map(best_by_batch_size_info, sources) if info.rows]
    if not infos:
        return _traces.empty_figure(
            TITLE, why_empty(sources, "No trial has run to its end yet, so no batch size has a best value.")
        )
    figure = new_figure(TITLE)
    for place, info in enumerate(infos):
        _draw(figure, info, place, several=len(infos) > 1)
    sizes = [float(row.batch_size) for info in infos for row in info.rows]
    figure.update_xaxes(**batch_size_axis(sizes))
    figure.update_yaxes(title={"text": value_label(infos[0].info)}, **_value_axis(infos))
    others = [cast(float, r.value) for info in infos for row in info.rows for r in row.others]
    _traces.add_caption(
        figure,
        "large: the best trial of each doubling in batch size" if any(info.is_grouped for info in infos) else None,
        beyond(others, figure.layout.yaxis, infos[0].info.objective.sign),
    )
    return figure


def _value_axis(infos: Sequence[BestByBatchSizeInfo]) -> Axis:
    """The best values fill the axis; of the worse trials those that fit beside them are seen."""
    sign = infos[0].info.objective.sign
    bests = [cast(float, row.best.value) for info in infos for row in info.rows]
    others = [cast(float, r.value) for info in infos for row in info.rows for r in row.others]
    if sign > 0 and len(bests) > 1 and is_wide(bests):
        return fitting_axis([*bests, *(value for value in others if value <= max(bests))], is_log=True)
    if len(bests) == 1:
        return value_axis(worth_seeing([*bests, *others], sign, typical=0.6), is_log=False)
    best, worst = min(sign * v for v in bests), max(sign * v for v in bests)
    seen = [v for v in others if sign * v <= worst + (worst - best)]
    return value_axis(worth_seeing([*bests, *seen], sign, typical=1.0), is_log=False)


def _draw(figure: go.Figure, info: BestByBatchSizeInfo, place: int, *, several: bool) -> None:
    look, name = look_of(place), escape(info.info.name)
    others = [record for row in info.rows for record in row.others]
    if others:
        has_texts = len(others) <= 500
        pale = _traces.points(
            [record.batch_size for record in others],
            [record.value for record in others],
            {"color": look.colour, "size": 6, "opacity": 0.4, "symbol": look.symbol},
            name="other completed trials",
            text=[_traces.describe(record, info.info) for record in others] if has_texts else None,
            hover="%{text}" if has_texts else "%{x}: %{y:.4~g}",
            group=name,
            showlegend=not several,
        )
        figure.add_trace(pale)
    bests = _traces.line(
        [row.batch_size for row in info.rows],
        [row.best.value for row in info.rows],
        look,
        name=name if several else f"best trial of {'each doubling' if info.is_grouped else 'the batch size'}",
        text=[_traces.describe(row.best, info.info) for row in info.rows],
        hover="%{text}",
        group=name,
        size=10,
    )
    if info.is_grouped:  # a line through the luckiest of each doubling would look like a law
        bests.mode = "markers"
    figure.add_trace(bests)
