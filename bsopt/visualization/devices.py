"""Time and cost of a training, and what more devices gain, by batch size and number of devices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import plotly.graph_objects as go

from bsopt.errors import PlanError
from bsopt.laws.estimate import Estimate
from bsopt.recommendation.costs import product, ratio, samples_at, update_seconds
from bsopt.recommendation.sentences import to_what
from bsopt.trial.plan import Limits, Plan, realise
from bsopt.trial.record import StudyInfo
from bsopt.units import count_of, format_number, in_words
from bsopt.visualization import _traces
from bsopt.visualization._axes import batch_size_axis, log_axis, share_x_axis
from bsopt.visualization._theme import Look, escape, look_of, stacked_figure
from bsopt.visualization.study_data import Source, StudyData, load_all, spread_evenly, why_empty

__all__ = ["DevicesInfo", "PlacementTime", "devices_info", "plot_devices", "times_line"]

TITLE = "Time and cost by devices"
PLACEMENTS = (1, 2, 4, 8, 16, 32)


@dataclass(frozen=True, slots=True)
class PlacementTime:
    """What one batch size takes on a number of devices.

    Attributes:
        plan: How the batch size is realised there.
        seconds: To the target, or without one over the budget.
        device_seconds: The same times the devices.
        is_measured: Whether its steps ran on these devices; else their time is predicted.
        strong: Times as many samples per second as one device with the same batch size; None where that isn't known.
        weak: Share of so many devices' samples per second, each alone with its part of the batch, that is kept.
    """

    plan: Plan
    seconds: Estimate
    device_seconds: Estimate
    is_measured: bool = True
    strong: Estimate | None = None
    weak: Estimate | None = None


@dataclass(frozen=True, slots=True)
class DevicesInfo:
    """What the figure shows.

    Attributes:
        info: The study.
        cost_is: What times are to: "to val_loss 0.35", "over the budget".
        as_good: Batch sizes that were tested to be as good as the best.
        placements: Predictions by number of devices, then by batch size.
        message: Why there are none, or why there are none on more devices.
    """

    info: StudyInfo
    cost_is: str
    as_good: tuple[int, ...]
    placements: dict[int, tuple[PlacementTime, ...]]
    message: str


def devices_info(study: Source) -> DevicesInfo:
    """Return time, cost and gain at the batch sizes that ran, measured or predicted, on as many devices as can be."""
    data = load_all(study)[0]
    fits = data.fits
    placements = {}
    for devices in PLACEMENTS:
        row = [_placement(data, size, devices) for size in _sizes(data)]
        found = tuple(item for item in row if item is not None)
        if found:
            placements[devices] = found
    has_predictions = any(not item.is_measured for row in placements.values() for item in row)
    message = fits.communication.message if set(placements) == {1} or has_predictions else ""
    if not placements:
        message = fits.steps.message if data.info.objective.target is not None else fits.step_time.message
    return DevicesInfo(data.info, to_what(data.evidence), data.recommendation.ties, placements, message)


def plot_devices(
    study: Source | Sequence[Source], *, batch_size: str | None = None, lr: str | None = None
) -> go.Figure:
    """Plot the time of a training, and the device time it costs, against the batch size, one line per devices.

    Times are to the study's target: the lowest point of each line is then the batch size to train with on that many
    devices. Without a target they are over the budget, and the caption names the batch sizes that are as good.

    Filled points were measured on so many devices; open ones, on dashed lines, are predicted from the communication
    that was measured or given. Where the cost rises steeply the extra devices mostly wait for one another or spend
    samples. The lowest plot is strong scaling: the same batch size on more devices; pointing at it tells weak scaling
    as well.

    Args:
        study: One or several.
        batch_size: The parameter's name; as for `load`.
        lr: The parameter's name; as for `load`.
    """
    sources = load_all(study, batch_size=batch_size, lr=lr)
    infos = [devices_info(data) for data in sources]
    drawn = [info for info in infos if info.placements]
    if not any(set(info.placements) - {1} for info in drawn):  # one device's times are those of other figures
        return _traces.empty_figure(TITLE, why_empty(sources, infos[0].message))
    has_gains = any(item.strong for info in drawn for row in info.placements.values() for item in row)
    rows = {"seconds": "time [s]", "device_seconds": "device time [s × devices]"}
    num_rows = len(rows) + has_gains
    figure = stacked_figure(_title(drawn), num_rows, height=320 * num_rows, spacing=0.06)
    for number, (key, title) in enumerate(rows.items(), start=1):
        for index, info in enumerate(drawn):
            for trace in _lines(info, key, first=index * len(PLACEMENTS), several=len(infos) > 1):
                figure.add_trace(trace.update(showlegend=number == 1), row=number, col=1)
        values = [getattr(item, key).value for info in drawn for row in info.placements.values() for item in row]
        figure.update_yaxes(**log_axis(values, title=title), row=number, col=1)
    if has_gains:
        for index, info in enumerate(drawn):
            for trace in _gains(info, first=index * len(PLACEMENTS), several=len(infos) > 1):
                figure.add_trace(trace, row=num_rows, col=1)
        gained = {"text": "samples per second,<br>times one device's"}
        figure.update_yaxes(title=gained, rangemode="tozero", row=num_rows, col=1)
    has_predictions = any(not item.is_measured for info in drawn for row in info.placements.values() for item in row)
    _traces.add_caption(
        figure,
        "filled: measured on so many devices; open: predicted" if has_predictions else None,
        *(_as_good(info, several=len(infos) > 1) for info in drawn),
    )
    if drawn[0].message and len(infos) == 1:
        _traces.add_sentence(figure, drawn[0].message)
    sizes = [float(item.plan.global_batch_size) for info in drawn for row in info.placements.values() for item in row]
    share_x_axis(figure, batch_size_axis(sizes), rows=num_rows)
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


def _title(infos: Sequence[DevicesInfo]) -> str:
    told = {info.cost_is for info in infos}
    return f"{TITLE}, {told.pop()}" if len(told) == 1 else TITLE


def _as_good(info: DevicesInfo, *, several: bool) -> str | None:
    """Return which batch sizes may be chosen by their time; None where it is to a target, which any of them reaches."""
    if info.info.objective.target is not None or not info.as_good:
        return None
    where = f" in {info.info.name}" if several else ""
    return f"tested to be as good as the best{where}: {in_words(info.as_good)}"


def _lines(info: DevicesInfo, key: str, *, first: int, several: bool) -> list[go.Scatter]:
    return [
        times_line(
            {item.plan.global_batch_size: getattr(item, key) for item in row},
            look,
            name=name,
            notes=[str(item.plan) for item in row],
            has_bars=not several,
        )
        for name, look, row in _drawn(info, first=first, several=several)
    ]


def _gains(info: DevicesInfo, *, first: int, several: bool) -> list[go.Scatter]:
    """Return the lines of strong scaling, which tell weak scaling where they are pointed at."""
    lines = []
    for name, look, row in _drawn(info, first=first, several=several):
        known = [(item, item.strong) for item in row if item.strong is not None]
        if known:
            lines.append(
                _traces.line(
                    [item.plan.global_batch_size for item, _ in known], [gain.value for _, gain in known], look,
                    name=name, text=[_gain_text(item, gain) for item, gain in known], hover=f"{name}<br>%{{text}}",
                    group=name, size=8, showlegend=False,
                    error_y=_traces.bars([gain for _, gain in known], look.colour, is_shown=not several),
                )
            )  # fmt: skip
    return lines


def _gain_text(item: PlacementTime, gain: Estimate) -> str:
    size, devices = item.plan.global_batch_size, item.plan.world_size
    text = (
        f"batch size {size}: <b>{gain.value:.2f} times</b> the samples per second of one device "
        f"({gain.value / devices:.0%} of {devices}; 90 %: {gain.low:.2f} to {gain.high:.2f})"
    )
    if item.weak is not None:
        text += f"<br>weak scaling: {item.weak.value:.0%} of {devices} devices with {size // devices} each"
    return text


def _drawn(info: DevicesInfo, *, first: int, several: bool) -> list[tuple[str, Look, tuple[PlacementTime, ...]]]:
    """Return name, look and points of each line: by number of devices, the measured apart from the predicted."""
    found = []
    for place, (devices, row) in enumerate(info.placements.items()):
        prefix = f"{escape(info.info.name)} · " if several else ""
        name, look = f"{prefix}{count_of(devices, 'device')}", look_of(first + place)
        for is_measured in (True, False):
            items = tuple(item for item in row if item.is_measured == is_measured)
            if items and is_measured:
                found.append((name, replace(look, dash="solid"), items))
            elif items:
                found.append((f"{name}, predicted", replace(look, symbol=f"{look.symbol}-open", dash="dash"), items))
    return found


def _sizes(data: StudyData) -> list[int]:
    fit, tried = data.fits.steps, list(data.batch_sizes)
    if data.evidence.target is not None and fit.tried_low is not None and fit.tried_high is not None:
        tried = [size for size in tried if fit.tried_low <= size <= fit.tried_high]
    return spread_evenly(tried, 16)


def _placement(data: StudyData, size: int, devices: int) -> PlacementTime | None:
    limits = Limits(num_devices=devices, max_micro_batch_size=data.info.max_micro_batch_size)
    try:
        plan = realise(size, limits)
    except PlanError:
        return None
    samples, update = samples_at(data.evidence, size), update_seconds(data.fits, plan)
    if samples is None or update is None:
        return None
    seconds = product(samples.scaled(1.0 / size), update)
    is_measured = devices == 1 or data.fits.measured_update(plan) is not None
    return PlacementTime(plan, seconds, seconds.scaled(devices), is_measured, *_scaling(data, plan, update))


def _scaling(data: StudyData, plan: Plan, update: Estimate) -> tuple[Estimate | None, Estimate | None]:
    """Return strong and weak scaling of a plan; None each where one device's time isn't known."""
    if plan.world_size == 1:
        return None, None
    try:
        alone = realise(plan.global_batch_size, Limits(max_micro_batch_size=data.info.max_micro_batch_size))
    except PlanError:
        return None, None
    whole = update_seconds(data.fits, alone)
    part = update_seconds(data.fits, Plan(plan.micro_batch_size, plan.accumulate_grad_batches))
    return (ratio(whole, update) if whole else None), (ratio(part, update) if part else None)
