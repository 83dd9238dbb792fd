"""Throughput and peak memory against the micro-batch, measured and fitted."""

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
from bsopt.visualization.study_data import Source, load_all, spread_evenly, why_empty

__all__ = ["LawCurve", "ThroughputInfo", "plot_throughput", "throughput_info"]

TITLE = "Throughput and memory"
MAX_POINTS = 300
_LABELS = {"throughput": "samples per second<br>and device", "memory": "peak memory [MB]"}
"""What is shown, one plot below the other -> its axis."""


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
    found = [r for r in data.records if _micro(r) and any(_measured(r, key) for key in _LABELS)]
    found = spread_evenly(found, MAX_POINTS)
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


def plot_throughput(
    study: Source | Sequence[Source], *, batch_size: str | None = None, lr: str | None = None
) -> go.Figure:
    """Plot samples per second of a device, and its peak memory, against the micro-batch, with the fitted laws.

    Args:
        study: One or several.
        batch_size: The parameter's name; as for `load`.
        lr: The parameter's name; as for `load`.
    """
    sources = load_all(study, batch_size=batch_size, lr=lr)
    infos = [info for info in map(throughput_info, sources) if info.records]
    if not infos:
        return _traces.empty_figure(TITLE, why_empty(sources, "No trial measured its throughput or its memory yet."))
    shown = [key for key in _LABELS if any(_measured(record, key) for info in infos for record in info.records)]
    figure = stacked_figure(TITLE, len(shown), height=600 if len(shown) > 1 else 400, spacing=0.06)
    for place, info in enumerate(infos):
        _draw(figure, info, place, shown, several=len(infos) > 1)
    sizes = [float(_micro(record)) for info in infos for record in info.records]
    share_x_axis(figure, batch_size_axis(sizes, title="micro-batch [samples per device and pass]"), rows=len(shown))
    for row, key in enumerate(shown, start=1):
        figure.update_yaxes(title={"text": _LABELS[key]}, rangemode="tozero", row=row, col=1)
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


def _draw(figure: go.Figure, info: ThroughputInfo, place: int, shown: Sequence[str], *, several: bool) -> None:
    name, look = escape(info.info.name), look_of(place)
    law_name = f"{name}: law" if several else "fitted law with 90 % interval"
    for row, key in enumerate(shown, start=1):
        curve, unit = (info.memory, 1e-6) if key == "memory" else (info.throughput, 1.0)
        if curve is not None:
            law = [value.scaled(unit) for value in curve.values]
            _traces.add_law(figure, curve.batch_sizes, law, place, name=law_name, row=row)
        trials = _traces.points(
            [_micro(record) for record in info.records],
            [_measured(record, key) for record in info.records],
            {"color": look.colour, "size": 7, "opacity": 0.6, "symbol": look.symbol},
            name=name if several else "trials",
            text=[_traces.describe(record, info.info) for record in info.records],
            hover="%{y:,.4~g}<br>%{text}",
            group=f"{place} trials",
            showlegend=row == 1,
        )
        figure.add_trace(trials, row=row, col=1)


def _measured(record: TrialRecord, key: str) -> float | None:
    """Return samples per second of a device while it steps, as the law says it, or its peak memory in MB."""
    if key == "memory":
        return record.peak_memory_bytes / 1e6 if record.peak_memory_bytes else None
    if record.seconds_per_step and record.batch_size:
        return record.batch_size / record.seconds_per_step / _world(record)
    return record.samples_per_second / _world(record) if record.samples_per_second else None
