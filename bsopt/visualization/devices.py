"""Time and cost to the target, by batch size and number of devices."""

from __future__ import annotations

from collections.abc import Sequence
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
from bsopt.visualization.study_data import Source, StudyData, load_all, spread_evenly

__all__ = ["DevicesInfo", "DevicesLine", "PlacementTime", "devices_info", "draw_devices", "plot_devices", "time_text"]

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
class DevicesLine:
    """What is drawn for a number of devices: times, with their intervals, and hover texts by batch size."""

    name: str
    look: Look
    batch_sizes: tuple[int, ...]
    times: tuple[Estimate, ...]
    texts: tuple[str, ...]


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


def plot_devices(study: Source | Sequence[Source]) -> go.Figure:
    """Plot the time to the target, and the device time it costs, against the batch size, one line per devices.

    The lowest point of each line is the batch size to train with on that many devices; where the cost rises steeply
    the extra devices mostly wait for one another or spend samples.
    """
    infos = [devices_info(data) for data in load_all(study)]
    drawn = [info for info in infos if info.placements]
    if not drawn:
        return _traces.empty_figure(TITLE, infos[0].message)
    figure = stacked_figure(_title(drawn[0]), 2, height=640, spacing=0.06)
    rows = {"seconds": "time to the target [s]", "device_seconds": "device time [s × devices]"}
    for row, (key, title) in enumerate(rows.items(), start=1):
        lines = [
            _line(info, devices, key, index=index, several=len(infos) > 1)
            for index, info in enumerate(drawn)
            for devices in info.placements
        ]
        draw_devices(figure, lines, row=row, has_bars=len(infos) == 1)
        values = [time.value for line in lines for time in line.times]
        figure.update_yaxes(**log_axis(values, title=title), row=row, col=1)
    if drawn[0].message and len(infos) == 1:
        _traces.add_sentence(figure, drawn[0].message)
    sizes = [float(item.plan.global_batch_size) for info in drawn for row in info.placements.values() for item in row]
    share_x_axis(figure, batch_size_axis(sizes), rows=2)
    return figure


def draw_devices(figure: go.Figure, lines: Sequence[DevicesLine], *, row: int = 1, has_bars: bool = True) -> None:
    """Draw times against the batch size into a plot of the figure, a line per number of devices."""
    for line in lines:
        trace = _traces.line(
            line.batch_sizes,
            [time.value for time in line.times],
            line.look,
            name=line.name,
            text=line.texts,
            hover=f"{line.name}<br>%{{text}}",
            group=line.name,
            showlegend=row == 1,
            size=8,
            error_y=_traces.bars(line.times, line.look.colour, is_shown=has_bars),
        )
        figure.add_trace(trace, row=row, col=1)


def time_text(seconds: Estimate) -> str:
    """Return seconds with their interval, for a hover text."""
    return f"<b>{format_number(seconds.value, digits=3, thousands=True)} s</b> ({_traces.span_text(seconds)})"


def _title(info: DevicesInfo) -> str:
    if info.target is None:
        return TITLE
    return f"{TITLE}, {info.info.objective.monitor} = {format_number(info.target, thousands=True)}"


def _line(info: DevicesInfo, devices: int, key: str, *, index: int, several: bool) -> DevicesLine:
    row = info.placements[devices]
    times = tuple(getattr(item, key) for item in row)
    return DevicesLine(
        name=(f"{escape(info.info.name)} · " if several else "") + count_of(devices, "device"),
        look=look_of(list(info.placements).index(devices) + index * len(PLACEMENTS)),
        batch_sizes=tuple(item.plan.global_batch_size for item in row),
        times=times,
        texts=tuple(f"{item.plan}: {time_text(time)}" for item, time in zip(row, times, strict=True)),
    )


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
