"""What the figures of an experiment share: arms and their runs, means over seeds as bands, words for captions."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from typing import TypeVar

import plotly.graph_objects as go

from bsopt.errors import ConfigError, nearest
from bsopt.experiment.design import Design
from bsopt.experiment.findings.table import ARMS
from bsopt.experiment.measurements import Experiment, ExperimentRun
from bsopt.experiment.seed_statistics import FEWEST_FOR_INTERVAL, SeedMean
from bsopt.laws.estimate import Estimate
from bsopt.units import format_number
from bsopt.visualization import _theme, _traces
from bsopt.visualization._size_colours import colours_of
from bsopt.visualization.study_data import Source, load

__all__ = [
    "NOT_ANALYSED",
    "NO_EXPERIMENT",
    "arm_label",
    "experiment_or_reason",
    "healthy_values",
    "interval_words",
    "look_of_size",
    "lost_words",
    "mean_band",
    "mean_text",
    "mean_words",
]

NO_EXPERIMENT = (
    "This study has no designed experiment: its file needs an `experiment` block with batch sizes, a learning rate "
    "and seeds."
)
NOT_ANALYSED = (
    "wasn't computed yet: `bsopt study analyze` does it, where the study kept its best weights (`checkpoints: all`)."
)

T = TypeVar("T")


def experiment_or_reason(study: Source, arms: Sequence[str] = (), *, needs_runs: bool = True) -> Experiment | str:
    """Return the study's experiment; a sentence where it has none, or no run of one of the arms.

    Args:
        study: The study.
        arms: Those to show.
        needs_runs: Whether each of them needs a run that ended.

    Raises:
        ConfigError: A name isn't one of `bsopt.experiment.findings.table.ARMS`.
    """
    for arm in arms:
        if arm not in ARMS:
            hint = nearest(arm, ARMS) or f" There are: {', '.join(ARMS)}."
            raise ConfigError(f"there is no arm {arm!r}.{hint}")
    experiment = load(study).experiment
    if experiment is None:
        return NO_EXPERIMENT
    for arm in arms if needs_runs else ():
        if arm not in experiment.design.arms:
            return f"The design has no arm {arm}: `arms` in the study file's `experiment` block names them."
        if not experiment.arm(arm):
            return f"No run of the arm {arm} has ended yet."
    return experiment


def healthy_values(
    experiment: Experiment, arm: str, read: Callable[[ExperimentRun], T | None]
) -> dict[int, dict[int, T]]:
    """Return batch size -> seed -> what `read` finds in a run of an arm; runs that diverged are left out."""
    found: dict[int, dict[int, T]] = {}
    for run in experiment.arm(arm):
        value = None if run.is_diverged else read(run)
        if value is not None:
            found.setdefault(run.batch_size, {})[run.seed] = value
    return {size: found[size] for size in sorted(found)}


def arm_label(design: Design, arm: str) -> str:
    """Return what an arm is called in a legend: its learning rate."""
    smallest = design.batch_sizes[0]
    return {
        "fixed_lr": f"learning rate {design.reference_lr:g}",
        "scaled_lr": f"learning rate {design.reference_lr:g} × B/{smallest}",
        "higher_lr": f"learning rate {design.higher_lr:g}",
    }.get(arm, arm)


def look_of_size(experiment: Experiment, batch_size: int) -> _theme.Look:
    """Return a batch size's look, the same in every figure of the study."""
    return colours_of(experiment.info, experiment.design.batch_sizes).look(batch_size)


def mean_band(x: Sequence[float], means: Sequence[SeedMean], look: _theme.Look, *, group: str) -> list[go.Scatter]:
    """Return the intervals of means as a band; an empty list where no point has two seeds."""
    if all(mean.num_seeds < 2 for mean in means):
        return []
    floor = min(mean.value for mean in means) / 100.0  # for log axes, which have no zero
    cut = [Estimate(mean.value, max(mean.low, floor) if floor > 0 else mean.low, mean.high) for mean in means]
    return _traces.band(x, cut, _theme.faded(look.colour, 0.18), group=group)


def mean_text(mean: SeedMean) -> str:
    """Return the mean with its interval and number of seeds, for a hover text."""
    value = format_number(mean.value, thousands=True)
    if mean.num_seeds == 1:
        return f"<b>{value}</b> (one seed)"
    return f"<b>{value}</b> ({_traces.span_text(mean)}; {mean.num_seeds} seeds)"


def interval_words(counts: Collection[int], *, mark: str = "bars", is_log: bool = False) -> str:
    """Return what is shown, for means over so many seeds: what the bars (or bands) of a figure are.

    >>> interval_words([5, 5])
    'mean over 5 seeds; bars: its 95 % interval'
    >>> interval_words([2])
    'mean over 2 seeds; bars: their range'
    >>> interval_words([1])
    'one seed: no interval'
    >>> interval_words([5], is_log=True)
    'geometric mean over 5 seeds; bars: its 95 % interval'
    """
    least, most = min(counts), max(counts)
    if most == 1:
        return "one seed: no interval"
    mean = "geometric mean" if is_log else "mean"
    words = f"{mean} over {most} seeds" if least == most else f"{mean} over {least} to {most} seeds"
    if most < FEWEST_FOR_INTERVAL:
        return f"{words}; {mark}: their range"
    return f"{words}; {mark}: its 95 % interval" + (", the range below 3 seeds" if least < FEWEST_FOR_INTERVAL else "")


def mean_words(counts: Collection[int], logs: Collection[bool], *, mark: str = "bars") -> list[str]:
    """Return what a caption says of means over so many seeds in several plots, of which some have log axes."""
    some = any(logs) and not all(logs)
    return [interval_words(counts, mark=mark, is_log=all(logs)), *(["on log axes: the geometric mean"] if some else [])]


def lost_words(runs: Iterable[ExperimentRun]) -> str | None:
    """Return what a caption says of runs that diverged, None where none did."""
    num = len({run.trial for run in runs if run.is_diverged})
    return f"crosses: {num} diverged, whose best before that counts" if num else None
