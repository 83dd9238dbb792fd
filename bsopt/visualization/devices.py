"""Time and cost to the target, by batch size and number of devices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import plotly.graph_objects as go

from bsopt.errors import PlanError
from bsopt.laws.estimate import Estimate
from bsopt.recommendation.costs import product, update_seconds
from bsopt.trial.plan import Limits, Plan, realise
from bsopt.trial.record import StudyInfo
from bsopt.units import count_of, format_number
from bsopt.visualization import _traces
from bsopt.visualization._axes import batch_size_axis, log_axis, share_x_axis
from bsopt.visualization._theme import Look, escape, look_of, stacked_figure
from bsopt.visualization.study_data import Source, StudyData, load_all, spread_evenly, why_empty

__all__ = ["DevicesInfo", "PlacementTime", "devices_info", "plot_devices", "times_line"]

TITLE = "Time and cost to the target by devices"
PLACEMENTS = (1, 2, 4, 8, 16, 32)


@dataclass(frozen=True, slots=True)
class PlacementTime:
    """What one batch size takes on a number of devices.

    Attributes:
        plan: How the batch size is realised there.
        seconds: To the target.
        device_seconds: The same times the devices.
    """

    plan: Plan
    seconds: Estimate
    device_seconds: Estimate


@dataclass(frozen=True, slots=True)
class DevicesInfo:
    """What the figure shows.

    Attributes:
        info: The study.
        target: The value that counts as reached.
        placements: Predictions by number of devices, then by batch size.
        message: Why there are none, or why there are none on more devices.
    """

    info: StudyInfo
    target: float | None
    placements: dict[int, tuple[PlacementTime, ...]]
    message: str


def devices_info(study: Source) -> DevicesInfo:
    """Return time and cost to the target at the batch sizes that ran, on as many devices as can be predicted."""
    data = load_all(study)[0]
    fits = data.fits
    placements = {}
    for devices in PLACEMENTS:
        row = [_placement(data, size, devices) for size in _sizes(data)]
        found = tuple(item for item in row if item is not None)
        if found:
            placements[devices] = found
    message = fits.communication.message if set(placements) == {1} else ""
    if not placements:
        message = fits.steps.message if not fits.steps.draws else fits.step_time.message
    return DevicesInfo(data.info, fits.steps.target, placements, message)


def plot_devices(
    study: Source | Sequence[Source], *, batch_size: str | None = None, lr: str | None = None
) -> go.Figure:
    """Plot the time to the target, and the device time it costs, against the batch size, one line per devices.

    The lowest point of each line is the batch size to train with on that many devices; where the cost rises steeply
    the extra devices mostly wait for one another or spend samples.

    Args:
        study: One or several.
        batch_size: The parameter's name; as for `load`.
        lr: The parameter's name; as for `load`.
    """
    sources = load_all(study, batch_size=batch_size, lr=lr)
    infos = [devices_info(data) for data in sources]
    drawn = [info for info in infos if info.placements]
    if not drawn:
        return _traces.empty_figure(TITLE, why_empty(sources, infos[0].message))
    figure = stacked_figure(_title(drawn[0]), 2, height=640, spacing=0.06)
    rows = {"seconds": "time to the target [s]", "device_seconds": "device time [s × devices]"}
    for number, (key, title) in enumerate(rows.items(), start=1):
        for index, info in enumerate(drawn):
            for trace in _lines(info, key, first=index * len(PLACEMENTS), several=len(infos) > 1):
                figure.add_trace(trace.update(showlegend=number == 1), row=number, col=1)
        values = [getattr(item, key).value for info in drawn for row in info.placements.values() for item in row]
        figure.update_yaxes(**log_axis(values, title=title), row=number, col=1)
    if drawn[0].message and len(infos) == 1:
        _traces.add_sentence(figure, drawn[0].message)
    sizes = [float(item.plan.global_batch_size) for info in drawn for row in info.placements.values() for item in row]
    share_x_axis(figure, batch_size_axis(sizes), rows=2)
    return figure


def times_line(
    times: Mapping[int, Estimate], look: Look, *, name: str, notes: Sequence[str], has_bars: bool = True
) -> go.Scatter:
    """Return the line of a number of devices: times, in seconds, by global batch size.

    Args:
        times: Batch size -> time.
        look: Colour, marker and dash.
        name: In the legend, escaped.
        notes: What the hover text says of each time.
        has_bars: Whether the times' intervals are drawn.
    """
    values = list(times.values())
    texts = [
        f"batch size {size}: <b>{format_number(time.value, digits=3, thousands=True)} s</b> "
        f"({_traces.span_text(time)}; {note})"
        for (size, time), note in zip(times.items(), notes, strict=True)
    ]
    return _traces.line(
        list(times), [time.value for time in values], look,
        name=name, text=texts, hover=f"{name}<br>%{{text}}", group=name, size=8,
        error_y=_traces.bars(values, look.colour, is_shown=has_bars),
    )  # fmt: skip


def _title(info: DevicesInfo) -> str:
    if info.target is None:
        return TITLE
    return f"{TITLE}, {info.info.objective.monitor} = {format_number(info.target, thousands=True)}"


def _lines(info: DevicesInfo, key: str, *, first: int, several: bool) -> list[go.Scatter]:
    prefix = f"{escape(info.info.name)} · " if several else ""
    return [
        times_line(
            {item.plan.global_batch_size: getattr(item, key) for item in row},
            look_of(first + place),
            name=f"{prefix}{count_of(devices, 'device')}",
            notes=[str(item.plan) for item in row],
            has_bars=not several,
        )
        for place, (devices, row) in enumerate(info.placements.items())
    ]


def _sizes(data: StudyData) -> list[int]:
    fit = data.fits.steps
    if fit.tried_low is None or fit.tried_high is None:
        return []
    tried = [size for size in data.batch_sizes if fit.tried_low <= size <= fit.tried_high]
    return spread_evenly(tried, 16)


def _placement(data: StudyData, size: int, devices: int) -> PlacementTime | None:
    limits = Limits(num_devices=devices, max_micro_batch_size=data.info.max_micro_batch_size)
    try:
        plan = realise(size, limits)
    except PlanError:
        return None
    cost = data.fits.steps.predict(size)
    update = update_seconds(data.fits, plan)
    if cost is None or update is None:
        return None
    seconds = product(cost.steps, update)
    return PlacementTime(plan, seconds, seconds.scaled(devices))
