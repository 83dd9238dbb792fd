"""Value against learning rate, one line per batch size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import plotly.graph_objects as go

from bsopt.trial.record import StudyInfo, TrialRecord
from bsopt.visualization import _traces
from bsopt.visualization._axes import is_wide, lr_axis, value_axis, value_label, worth_seeing
from bsopt.visualization._theme import Look, escape, look_of, new_figure
from bsopt.visualization.study_data import Source, Status, StudyData, load_all, status_of, why_empty

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
    values = [cast(float, record.value) for item in kept for record in item.records]
    sign = sources[0].info.objective.sign
    return LrSliceInfo(
        info=sources[0].info,
        slices=tuple(kept),
        num_left_out=len(slices) - len(kept),
        value_range=_value_range(values, sign),
        is_log=sign > 0 and is_wide(values),
    )


def plot_lr_slice(
    study: Source | Sequence[Source], *, batch_size: str | None = None, lr: str | None = None
) -> go.Figure:
    """Plot the value against the learning rate, a line through the best trial at each rate per batch size.

    Filled markers ran to their end, open ones were pruned; a cross on the upper edge is a learning rate at which
    training diverged.

    Args:
        study: One or several.
        batch_size: The parameter's name; as for `load`.
        lr: The parameter's name; as for `load`.
    """
    sources = load_all(study, batch_size=batch_size, lr=lr)
    info = lr_slice_info(sources)
    if not any(item.records for item in info.slices):
        return _traces.empty_figure(
            TITLE, why_empty(sources, "No trial with a learning rate and a value has finished yet.")
        )
    return _draw(info, several=len(sources) > 1)


def _slices(data: StudyData) -> list[LrSlice]:
    valued, lost = _by_size(data.valued), _by_size([r for r in data.records if status_of(r) is Status.DIVERGED])
    return [
        LrSlice(
            study=data.name,
            batch_size=size,
            records=tuple(sorted(valued.get(size, ()), key=lambda record: cast(float, record.lr))),
            diverged=tuple(lost.get(size, ())),
        )
        for size in sorted(valued.keys() | lost.keys())
    ]


def _by_size(records: Sequence[TrialRecord]) -> dict[int, list[TrialRecord]]:
    found: dict[int, list[TrialRecord]] = {}
    for record in records:
        if record.is_placed:
            found.setdefault(cast(int, record.batch_size), []).append(record)
    return found


def _value_range(values: Sequence[float], sign: float) -> tuple[float, float] | None:
    if sign > 0 and is_wide(values):
        return min(values) / 1.2, 1.2 * max(values)
    return worth_seeing(values, sign, typical=0.85, headroom=2.0)


def _draw(info: LrSliceInfo, *, several: bool) -> go.Figure:
    figure = new_figure(TITLE)
    rates: list[float] = []
    for place, item in enumerate(info.slices):
        rates += [cast(float, record.lr) for record in [*item.records, *item.diverged]]
        name = escape(f"{item.study} · {item.batch_size}") if several else f"{item.batch_size}"
        figure.add_traces(_traces_of(info, item, look_of(place), name))
    figure.update_layout(legend={"title": {"text": "batch size "}})
    figure.update_xaxes(**lr_axis(rates))
    figure.update_yaxes(title={"text": value_label(info.info)}, **value_axis(info.value_range, is_log=info.is_log))
    return figure


def _traces_of(info: LrSliceInfo, item: LrSlice, look: Look, name: str) -> list[go.Scatter]:
    """Return a batch size's line through completed trials, pruned trials, and crosses where training diverged."""
    complete = [r for r in item.records if status_of(r) is Status.COMPLETE]
    pruned = [r for r in item.records if status_of(r) is not Status.COMPLETE]
    size = 5 if len(item.records) > 60 else 8
    found = []
    if complete:
        line = _traces.line(
            [record.lr for record in complete],
            [record.value for record in complete],
            look,
            name=name,
            hover="%{text}",
            text=[_traces.describe(record, info.info) for record in complete],
            group=name,
            width=1.5,
            size=size,
        )
        found.append(line.update(mode="markers") if len(item.records) > 60 else line)
    if pruned:  # a pruned trial saw fewer samples: its value doesn't belong on the line
        marker = {"symbol": f"{look.symbol}-open", "size": size, "color": look.colour}
        values = [record.value for record in pruned]
        found.append(_marks(info, pruned, values, marker, name, showlegend=not complete))
    if item.diverged and info.value_range is not None:
        edge = info.value_range[1] if info.info.objective.value_direction == "minimize" else info.value_range[0]
        cross = {"symbol": "x-thin", "size": 8, "line": {"width": 2, "color": look.colour}}
        edges = [edge] * len(item.diverged)
        crosses = _marks(info, item.diverged, edges, cross, name, showlegend=not item.records)
        found.append(crosses.update(cliponaxis=False))
    return found


def _marks(
    info: LrSliceInfo,
    records: Sequence[TrialRecord],
    values: Sequence[float | None],
    marker: dict[str, object],
    name: str,
    *,
    showlegend: bool,
) -> go.Scatter:
    texts = [_traces.describe(record, info.info) for record in records]
    rates = [record.lr for record in records]
    return _traces.points(rates, values, marker, name=name, text=texts, group=name, showlegend=showlegend)
