"""Throughput and peak memory against the micro-batch, measured and fitted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from bsopt.laws.estimate import Estimate
from bsopt.trial.record import StudyInfo, TrialRecord
from bsopt.visualization import _theme
from bsopt.visualization.study_data import Source, load_all

__all__ = ["LawCurve", "ThroughputInfo", "plot_throughput", "throughput_info"]

TITLE = "Throughput and memory"
MAX_POINTS = 300


@dataclass(frozen=True, slots=True)
class LawCurve:
    """A fitted law on a grid of batch sizes, with its interval; all of the same length."""

    batch_sizes: tuple[float, ...]
    values: tuple[Estimate, ...]


@dataclass(frozen=True, slots=True)
class ThroughputInfo:
    """What the figure shows.

    Attributes:
        info: The study.
        records: Trials with a measured throughput or memory, at most 300.
        throughput: Fitted samples per second and device; None where the law isn't fitted.
        memory: Fitted peak bytes of a device.
        message: What the fits say.
    """

    info: StudyInfo
    records: tuple[TrialRecord, ...]
    throughput: LawCurve | None
    memory: LawCurve | None
    message: str


def throughput_info(study: Source) -> ThroughputInfo:
    """Return what the trials measured per device, and the fitted laws over the range of micro-batches."""
    data = load_all(study)[0]
    found = [r for r in data.records if _micro(r) and (_measured(r, 1) or _measured(r, 2))]
    if len(found) > MAX_POINTS:
        found = [found[i] for i in np.linspace(0, len(found) - 1, MAX_POINTS).astype(int)]
    grid = _grid([_micro(record) for record in found])
    speeds = [(b, data.fits.step_time.samples_per_second(b)) for b in grid]
    memory = [(b, data.fits.memory.predict(b)) for b in grid]
    return ThroughputInfo(
        info=data.info,
        records=tuple(found),
        throughput=_curve(speeds),
        memory=_curve(memory),
        message=data.fits.step_time.message,
    )


def plot_throughput(study: Source | Sequence[Source]) -> go.Figure:
    """Plot samples per second of a device, and its peak memory, against the micro-batch, with the fitted laws."""
    infos = [info for info in map(throughput_info, load_all(study)) if info.records]
    if not infos:
        return _theme.empty_figure(TITLE, "No trial measured its throughput or its memory yet.")
    figure = make_subplots(rows=2, cols=1, shared_xaxes=True, vertical_spacing=0.06)
    _theme.style(figure, TITLE, height=600)
    for place, info in enumerate(infos):
        _draw(figure, info, place, several=len(infos) > 1)
    sizes = [float(_micro(record)) for info in infos for record in info.records]
    axis = _theme.batch_size_axis(sizes)
    figure.update_xaxes(**{key: value for key, value in axis.items() if key != "title"})
    figure.update_xaxes(title={"text": "micro-batch [samples per device and pass]"}, row=2, col=1)
    figure.update_yaxes(title={"text": "samples per second<br>and device"}, rangemode="tozero", row=1, col=1)
    figure.update_yaxes(title={"text": "peak memory [MB]"}, rangemode="tozero", row=2, col=1)
    return figure


def _micro(record: TrialRecord) -> int:
    if record.plan is not None:
        return record.plan.micro_batch_size
    return record.batch_size or 0


def _world(record: TrialRecord) -> int:
    return record.plan.world_size if record.plan is not None else 1


def _grid(sizes: Sequence[int]) -> list[float]:
    if not sizes or min(sizes) == max(sizes):
        return []
    return [float(size) for size in np.geomspace(min(sizes), max(sizes), 33)]


def _curve(pairs: Sequence[tuple[float, Estimate | None]]) -> LawCurve | None:
    known = [(size, value) for size, value in pairs if value is not None]
    if not known:
        return None
    return LawCurve(tuple(size for size, _ in known), tuple(value for _, value in known))


def _draw(figure: go.Figure, info: ThroughputInfo, place: int, *, several: bool) -> None:
    name = _theme.escape(info.info.name)
    for row, (curve, unit) in enumerate(((info.throughput, 1.0), (info.memory, 1e-6)), start=1):
        if curve is not None:
            _theme.add_law(figure, curve.batch_sizes, [value.scaled(unit) for value in curve.values], place,
                           name=f"{name}: law" if several else "fitted law with 90 % interval",
                           showlegend=row == 1, row=row)  # fmt: skip
        values = [_measured(record, row) for record in info.records]
        figure.add_trace(
            go.Scatter(
                x=[_micro(record) for record in info.records],
                y=values,
                mode="markers",
                name=name if several else "trials",
                legendgroup=f"{place} trials",
                showlegend=row == 1,
                marker={"color": _theme.colour_of(place), "size": 7, "opacity": 0.6, "symbol": _theme.symbol_of(place)},
                text=[_theme.describe(record, info.info) for record in info.records],
                hovertemplate="%{y:,.4~g}<br>%{text}<extra></extra>",
            ),
            row=row,
            col=1,
        )


def _measured(record: TrialRecord, row: int) -> float | None:
    """Return samples per second of a device while it steps, as the law says it, or its peak memory in MB."""
    if row == 2:
        return record.peak_memory_bytes / 1e6 if record.peak_memory_bytes else None
    if record.seconds_per_step and record.batch_size:
        return record.batch_size / record.seconds_per_step / _world(record)
    return record.samples_per_second / _world(record) if record.samples_per_second else None
