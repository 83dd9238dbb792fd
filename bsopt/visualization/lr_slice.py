"""Value against learning rate, one line per batch size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import cast

import plotly.graph_objects as go

from bsopt.trial.record import StudyInfo, TrialRecord
from bsopt.visualization import _traces
from bsopt.visualization._axes import beyond, is_wide, lr_axis, value_axis, value_label, worth_seeing
from bsopt.visualization._size_colours import SizeColours, size_colours
from bsopt.visualization._theme import MARKERS, Look, escape, new_figure
from bsopt.visualization.study_data import Source, Status, StudyData, load_all, status_of, why_empty

__all__ = ["LrSlice", "LrSliceInfo", "lr_slice_info", "plot_lr_slice"]

TITLE = "Value against learning rate"
MAX_LINES = 14
MOST_TEXTS = 1000
MOST_JOINED = 60
_NEAR = 1.25
"""Learning rates within this factor share one point of a line, which would run up and down by their noise."""
_PRUNED = f"{MARKERS[Status.PRUNED]['symbol']}-open"


@dataclass(frozen=True, slots=True)
class LrSlice:
    """Trials of one batch size by rising learning rate, and the learning rates at which it diverged."""

    study: str
    batch_size: int
    records: tuple[TrialRecord, ...]
    diverged: tuple[TrialRecord, ...]

    @property
    def has_line(self) -> bool:
        """Whether a line joins its trials: through very many it would hide them."""
        return len(self.records) <= MOST_JOINED


@dataclass(frozen=True, slots=True)
class LrSliceInfo:
    """The lines, smallest batch size first, and the range of values worth seeing, on a log axis where it is wide."""

    info: StudyInfo
    slices: tuple[LrSlice, ...]
    colours: SizeColours
    value_range: tuple[float, float] | None
    is_log: bool


def lr_slice_info(study: Source | Sequence[Source]) -> LrSliceInfo:
    """Return the trials by batch size."""
    sources = load_all(study)
    slices = [item for data in sources for item in _slices(data)]
    slices.sort(key=lambda item: (item.batch_size, item.study))
    values = [cast(float, record.value) for item in slices for record in item.records]
    sign = sources[0].info.objective.sign
    return LrSliceInfo(
        info=sources[0].info,
        slices=tuple(slices),
        colours=size_colours(sources),
        value_range=_value_range(values, sign),
        is_log=sign > 0 and is_wide(values),
    )


def plot_lr_slice(
    study: Source | Sequence[Source], *, batch_size: str | None = None, lr: str | None = None
) -> go.Figure:
    """Plot the value against the learning rate, a line per batch size through the medians at each rate.

    Circles ran to their end, open triangles were pruned; a cross on the upper edge is a learning rate at which
    training diverged. Of very many batch sizes the points alone are drawn, coloured by batch size.

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
        found: tuple[float, float] | None = (min(values) / 1.2, 1.2 * max(values))
    else:
        found = worth_seeing(values, sign, typical=0.7, headroom=2.0)
    if found is None:
        return None
    low, high = map(_traces.rounded, found)  # as marks are, which on the edge would lie just beyond it and be hidden
    return (low, high) if low is not None and high is not None else found


def _draw(info: LrSliceInfo, *, several: bool) -> go.Figure:
    figure = new_figure(TITLE)
    rates: list[float] = []
    is_crowded = len(info.slices) > MAX_LINES
    for item in info.slices:
        rates += [cast(float, record.lr) for record in [*item.records, *item.diverged]]
        label = f"batch size {item.batch_size}"
        name = escape(f"{item.study} · {label}") if several else label
        if not is_crowded:
            figure.add_traces(_traces_of(info, item, info.colours.look(item.batch_size), name))
    if is_crowded:
        figure.add_traces(_crowd(info))
    figure.update_xaxes(**lr_axis(rates))
    figure.update_yaxes(title={"text": value_label(info.info)}, **value_axis(info.value_range, is_log=info.is_log))
    values = [cast(float, record.value) for item in info.slices for record in item.records]
    left_out = beyond(values, figure.layout.yaxis, info.info.objective.sign)
    _traces.add_caption(figure, *_caption(info, is_crowded=is_crowded), left_out)
    return figure


def _caption(info: LrSliceInfo, *, is_crowded: bool) -> list[str]:
    records = [record for item in info.slices for record in item.records]
    said = []
    if not is_crowded:
        groups = [rates for item in info.slices if item.has_line for rates in _near_rates(_complete(item))]
        if any(found[-1].lr != found[0].lr for found in groups):
            said.append(f"lines: medians of the trials whose learning rates lie within a factor of {_NEAR:g}")
        elif any(len(found) > 1 for found in groups):
            said.append("lines: the median at each learning rate")
    if any(status_of(record) is not Status.COMPLETE for record in records):
        said.append("triangles: pruned, by the value so far")
    if not is_crowded and any(item.diverged for item in info.slices):
        said.append("crosses at the edge: diverged")
    return said


def _traces_of(info: LrSliceInfo, item: LrSlice, look: Look, name: str) -> list[go.Scatter]:
    """Return a batch size's line through completed trials, pruned trials, and crosses where training diverged."""
    complete = _complete(item)
    pruned = [r for r in item.records if status_of(r) is not Status.COMPLETE]
    size = 8 if item.has_line else 5
    found: list[go.Scatter] = []
    if complete:
        marker = {"symbol": look.symbol, "size": size, "color": look.colour}
        if item.has_line:
            found.append(_medians(complete, look, name))
        values = [record.value for record in complete]
        found.append(_marks(info, complete, values, marker, name, showlegend=len(found) == 0))
    if pruned:  # a pruned trial saw fewer samples: its value doesn't belong on the line
        marker = {"symbol": _PRUNED, "size": size, "color": look.colour}
        values = [record.value for record in pruned]
        found.append(_marks(info, pruned, values, marker, name, showlegend=not complete))
    if item.diverged and info.value_range is not None:
        edge = info.value_range[1] if info.info.objective.value_direction == "minimize" else info.value_range[0]
        cross = {"symbol": "x-thin", "size": 8, "line": {"width": 2, "color": look.colour}}
        edges = [edge] * len(item.diverged)
        crosses = _marks(info, item.diverged, edges, cross, name, showlegend=not item.records)
        found.append(crosses.update(cliponaxis=False))
    return found


def _medians(records: Sequence[TrialRecord], look: Look, name: str) -> go.Scatter:
    """Return the line through the medians of trials whose learning rates are the same or nearly so."""
    groups = _near_rates(records)
    rates = [median(cast(float, record.lr) for record in found) for found in groups]
    middles = [median(cast(float, record.value) for record in found) for found in groups]
    line = _traces.line(rates, middles, look, name=name, hover="", group=name, width=1.5)
    return line.update(hoverinfo="skip", hovertemplate=None, marker={"size": 0 if len(rates) < len(records) else 5})


def _complete(item: LrSlice) -> list[TrialRecord]:
    return [record for record in item.records if status_of(record) is Status.COMPLETE]


def _near_rates(records: Sequence[TrialRecord]) -> list[list[TrialRecord]]:
    """Return trials by rising learning rate, those of nearly the same one together."""
    groups: list[list[TrialRecord]] = []
    for record in records:
        if groups and cast(float, record.lr) <= _NEAR * cast(float, groups[-1][0].lr):
            groups[-1].append(record)
        else:
            groups.append([record])
    return groups


def _crowd(info: LrSliceInfo) -> list[go.Scatter]:
    """Return the trials of very many batch sizes: a legend would not hold them, so a colour bar tells them."""
    found: list[go.Scatter] = []
    for is_complete, name, symbol in ((True, "complete", "circle"), (False, "pruned", _PRUNED)):
        records = [r for item in info.slices for r in item.records if (status_of(r) is Status.COMPLETE) == is_complete]
        if records:
            sizes = [float(cast(int, record.batch_size)) for record in records]
            marker = {**info.colours.marker(sizes), "symbol": symbol, "size": 6, "showscale": not found}
            found.append(_marks(info, records, [r.value for r in records], marker, name, showlegend=True))
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
    has_texts = len(records) <= MOST_TEXTS
    texts = [_traces.describe(record, info.info) for record in records] if has_texts else None
    hover = "%{text}" if has_texts else "lr %{x:.3~g}: %{y:.4~g}"
    rates = [record.lr for record in records]
    return _traces.points(rates, values, marker, name=name, text=texts, hover=hover, group=name, showlegend=showlegend)
