"""Time and cost to the target, by batch size and number of devices."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from bsopt.errors import PlanError
from bsopt.laws.estimate import Estimate
from bsopt.recommendation.costs import product, update_seconds
from bsopt.trial.plan import Limits, Plan, realise
from bsopt.trial.record import StudyInfo
from bsopt.visualization import _theme
from bsopt.visualization.study_data import Source, StudyData, load_all

__all__ = ["DevicesInfo", "PlacementTime", "devices_info", "plot_devices"]

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


def plot_devices(study: Source | Sequence[Source]) -> go.Figure:
    """Plot the time to the target, and the device time it costs, against the batch size, one line per devices.

    The lowest point of each line is the batch size to train with on that many devices; where the cost rises steeply
    the extra devices mostly wait for one another or spend samples.
    """
    infos = [devices_info(data) for data in load_all(study)]
    shown = next((info for info in infos if info.placements), None)
    if shown is None:
        return _theme.empty_figure(TITLE, infos[0].message)
    figure = make_subplots(rows=2, cols=1, shared_xaxes=True, vertical_spacing=0.06)
    title = (
        TITLE if shown.target is None else f"{TITLE}, {shown.info.objective.monitor} = {_theme.number(shown.target)}"
    )
    _theme.style(figure, title, height=640)
    for index, info in enumerate(info for info in infos if info.placements):
        for place, (devices, row) in enumerate(info.placements.items()):
            prefix = f"{_theme.escape(info.info.name)} · " if len(infos) > 1 else ""
            label = f"{prefix}{devices} {'device' if devices == 1 else 'devices'}"
            _lines(figure, row, place + index * len(PLACEMENTS), label, has_band=len(infos) == 1)
    if shown.message and len(infos) == 1:
        _theme.add_sentence(figure, shown.message)
    sizes = [float(item.plan.global_batch_size) for info in infos for row in info.placements.values() for item in row]
    axis = _theme.batch_size_axis(sizes)
    figure.update_xaxes(**{key: value for key, value in axis.items() if key != "title"})
    figure.update_xaxes(title=axis["title"], row=2, col=1)
    for row_number, name in enumerate(("time to the target [s]", "device time [s × devices]"), start=1):
        values = [
            (item.seconds if row_number == 1 else item.device_seconds).value
            for info in infos
            for row in info.placements.values()
            for item in row
        ]
        ticks = _theme.log_ticks(values)
        figure.update_yaxes(
            type="log",
            title={"text": name},
            tickvals=ticks,
            ticktext=[f"{tick:g}" for tick in ticks],
            row=row_number,
            col=1,
        )
    return figure


def _sizes(data: StudyData) -> list[int]:
    fit = data.fits.steps
    if fit.tried_low is None or fit.tried_high is None:
        return []
    tried = [size for size in data.batch_sizes if fit.tried_low <= size <= fit.tried_high]
    if len(tried) <= 16:
        return tried
    return [tried[i] for i in np.unique(np.linspace(0, len(tried) - 1, 16).astype(int))]


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


def _lines(figure: go.Figure, row: Sequence[PlacementTime], place: int, label: str, *, has_band: bool) -> None:
    for number, key in enumerate(("seconds", "device_seconds"), start=1):
        values = [getattr(item, key) for item in row]
        figure.add_trace(
            go.Scatter(
                x=[item.plan.global_batch_size for item in row],
                y=[value.value for value in values],
                mode="lines+markers",
                name=label,
                legendgroup=label,
                showlegend=number == 1,
                line={"color": _theme.colour_of(place), "dash": _theme.dash_of(place), "width": 2},
                marker={"symbol": _theme.symbol_of(place), "size": 7},
                error_y={
                    "type": "data",
                    "symmetric": False,
                    "array": [value.high - value.value for value in values],
                    "arrayminus": [value.value - value.low for value in values],
                    "thickness": 1,
                    "width": 0,
                    "color": _theme.faded(_theme.colour_of(place), 0.5),
                    "visible": has_band,
                },
                text=[f"{item.plan}" for item in row],
                hovertemplate=f"{label}<br>%{{text}}: <b>%{{y:,.3~g}}</b><extra></extra>",
            ),
            row=number,
            col=1,
        )
