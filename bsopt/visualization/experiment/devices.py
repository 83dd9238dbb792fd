"""Seconds per epoch on several devices: measured where trials ran on several, else predicted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import median

import plotly.graph_objects as go

from bsopt.laws.estimate import Estimate
from bsopt.recommendation.costs import update_seconds
from bsopt.trial.plan import Plan
from bsopt.trial.record import TrialRecord
from bsopt.units import count_of
from bsopt.visualization import _axes, _traces
from bsopt.visualization._theme import Look, colour_of, new_figure, symbol_of
from bsopt.visualization.devices import times_line
from bsopt.visualization.experiment._arms import NO_EXPERIMENT
from bsopt.visualization.study_data import Source, StudyData, load

__all__ = ["EpochTime", "ExperimentDevicesInfo", "experiment_devices_info", "plot_experiment_devices"]

TITLE = "Time per epoch by devices"
PREDICTED = (2, 4, 8)


@dataclass(frozen=True, slots=True)
class EpochTime:
    """Seconds per epoch at one batch size on so many devices.

    Attributes:
        batch_size: Global batch size, samples.
        num_devices: Over all nodes.
        seconds: Measured: the median and the range over `num_trials`; predicted: with a 90 % interval.
        num_trials: That measured it; 0 where it is predicted.
    """

    batch_size: int
    num_devices: int
    seconds: Estimate
    num_trials: int


@dataclass(frozen=True, slots=True)
class ExperimentDevicesInfo:
    """What the figure shows.

    Attributes:
        lines: Number of devices -> times by batch size.
        has_communication: Whether predictions hold what devices wait for each other; else they are a lower bound.
        message: Why nothing is shown, or why several devices aren't predicted.
    """

    lines: Mapping[int, tuple[EpochTime, ...]]
    has_communication: bool
    message: str


def experiment_devices_info(study: Source) -> ExperimentDevicesInfo:
    """Return the time per epoch at the batch sizes of the design, measured or predicted from the fitted step time."""
    data = load(study)
    if data.experiment is None:
        return ExperimentDevicesInfo({}, has_communication=False, message=NO_EXPERIMENT)
    sizes = data.experiment.design.batch_sizes
    measured = _measured([record for record in data.records if record.design_variant is None], sizes)
    if not measured:
        message = "No ended run of the design measured its time per epoch."
        return ExperimentDevicesInfo({}, has_communication=False, message=message)
    if len(measured) > 1:
        return ExperimentDevicesInfo(measured, has_communication=True, message="")
    has_communication = any(update_seconds(data.fits, Plan(1, num_devices=devices)) for devices in PREDICTED)
    predicted = {devices: _predicted(data, sizes, devices, has_communication) for devices in PREDICTED}
    found = {devices: times for devices, times in predicted.items() if times}
    message = "" if found else f"Other devices aren't predicted: {data.fits.step_time.message}"
    return ExperimentDevicesInfo({**measured, **found}, has_communication=has_communication, message=message)


def plot_experiment_devices(study: Source) -> go.Figure:
    """Plot the time per epoch against the batch size, a line per number of devices.

    Chang & Pathak 2020, figure 8. Where all trials ran on equally many devices the other lines are predicted, and
    named so: from the fitted step time and the measured communication, or, where that was never measured, without
    any, which is the least that several devices can take.

    Args:
        study: A study with an experiment.
    """
    found = experiment_devices_info(study)
    if len(found.lines) < 2:
        return _traces.empty_figure(TITLE, found.message)
    figure = new_figure(TITLE)
    figure.add_traces([_line(times, place) for place, times in enumerate(found.lines.values())])
    drawn = [time for times in found.lines.values() for time in times]
    figure.update_xaxes(**_axes.batch_size_axis([float(time.batch_size) for time in drawn]))
    values = [time.seconds.value for time in drawn]
    axis = _axes.mean_axis((), values, is_log=_axes.is_wide(values), from_zero=True)
    figure.update_yaxes(title={"text": "time per epoch [s]"}, **axis)
    is_predicted = any(time.num_trials == 0 for time in drawn)
    least = "predicted: communication left out, so at least this"
    with_all = "predicted, with communication; bars: 90 % interval"
    _traces.add_caption(
        figure,
        "measured: median over the runs; bars: their range",
        (with_all if found.has_communication else least) if is_predicted else None,
    )
    return figure


def _measured(records: Sequence[TrialRecord], sizes: Sequence[int]) -> dict[int, tuple[EpochTime, ...]]:
    groups: dict[int, dict[int, list[float]]] = {}
    for record in records:
        size = record.batch_size
        if record.plan is not None and size is not None and size in sizes and record.seconds_per_epoch:
            groups.setdefault(record.plan.world_size, {}).setdefault(size, []).append(record.seconds_per_epoch)
    return {
        devices: tuple(
            EpochTime(size, devices, Estimate(median(found), min(found), max(found)), len(found))
            for size, found in sorted(line.items())
        )
        for devices, line in sorted(groups.items())
    }


def _predicted(data: StudyData, sizes: Sequence[int], devices: int, has_communication: bool) -> tuple[EpochTime, ...]:
    if data.info.num_train_samples is None or data.fits.step_time_world != 1:
        return ()
    found, per_epoch = [], data.info.num_train_samples * data.info.units_per_sample
    for size in sizes:
        if size % devices:
            continue
        plan = Plan(size // devices, num_devices=devices)
        update = update_seconds(data.fits, plan) if has_communication else data.fits.step_time.predict(size / devices)
        if update is not None:
            found.append(EpochTime(size, devices, update.scaled(per_epoch / size), 0))
    return tuple(found)


def _line(times: Sequence[EpochTime], place: int) -> go.Scatter:
    look, how = Look(colour_of(2 * place), symbol_of(place)), "measured"
    if times[0].num_trials == 0:
        look, how = replace(look, symbol=f"{look.symbol}-open", dash="dash"), "predicted"
    return times_line(
        {time.batch_size: time.seconds for time in times},
        look,
        name=f"{count_of(times[0].num_devices, 'device')}, {how}",
        notes=[count_of(time.num_trials, "run") if time.num_trials else "90 %" for time in times],
    )
