"""What the figures of an experiment share: where their data come from, names, colours, error bars, bands, captions."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Sequence
from typing import Any

import plotly.graph_objects as go

from bsopt.errors import ConfigError, nearest
from bsopt.experiment.design import Design
from bsopt.experiment.findings.table import ARMS
from bsopt.experiment.measurements import Experiment, ExperimentRun
from bsopt.trial.record import StopReason
from bsopt.visualization import _theme
from bsopt.visualization.experiment.seeds import SeedMean, interval_words
from bsopt.visualization.study_data import Source, load

__all__ = [
    "add_band",
    "add_caption",
    "arm_colour",
    "arm_label",
    "check_arms",
    "empty_arm",
    "experiment_in",
    "interval_text",
    "is_diverged",
    "is_wide",
    "lost_words",
    "mean_words",
    "range_axis",
    "rounded",
    "size_place",
    "value_axis",
]

NO_EXPERIMENT = (
    "This study has no designed experiment: its file needs an `experiment` block with batch sizes, a learning rate "
    "and seeds."
)
# The first two colours are both blue: few batch sizes are further apart.
_FEW_PLACES = {1: (0,), 2: (0, 4), 3: (0, 2, 4), 4: (0, 2, 3, 4), 5: (0, 2, 3, 4, 5)}
_WIDE = 10.0  # ratio of the largest to the smallest value from which on an axis is logarithmic
_ARM_PLACES = {"fixed_lr": 0, "scaled_lr": 4, "higher_lr": 2, "grid": 6}


def experiment_in(study: Source) -> Experiment | None:
    """Return the study's experiment."""
    return load(study).experiment


def check_arms(arms: Sequence[str]) -> None:
    """Refuse unknown names.

    Raises:
        ConfigError: A name isn't one of `bsopt.experiment.findings.table.ARMS`.
    """
    for arm in arms:
        if arm not in ARMS:
            hint = nearest(arm, ARMS) or f" There are: {', '.join(ARMS)}."
            raise ConfigError(f"there is no arm {arm!r}.{hint}")


def empty_arm(experiment: Experiment, arms: Sequence[str]) -> str | None:
    """Return in a sentence which of the arms has nothing to show; None where all have runs."""
    for arm in arms:
        if arm not in experiment.design.arms:
            return f"The design has no arm {arm}: `arms` in the study file's `experiment` block names them."
        if not experiment.arm(arm):
            return f"No run of the arm {arm} has ended yet."
    return None


def arm_label(design: Design, arm: str) -> str:
    """Return what an arm is called in a legend: its learning rate."""
    smallest = design.batch_sizes[0]
    return {
        "fixed_lr": f"learning rate {design.reference_lr:g}",
        "scaled_lr": f"learning rate {design.reference_lr:g} × B/{smallest}",
        "higher_lr": f"learning rate {design.higher_lr:g}",
    }.get(arm, arm)


def arm_colour(arm: str) -> str:
    """Return the colour of an arm, the same in every figure."""
    return _theme.colour_of(_ARM_PLACES[arm])


def size_place(experiment: Experiment, batch_size: int) -> int:
    """Return a batch size's place in colours and symbols, the same in every figure of the experiment."""
    sizes = sorted({*experiment.design.batch_sizes, batch_size})
    place = sizes.index(batch_size)
    return _FEW_PLACES[len(sizes)][place] if len(sizes) in _FEW_PLACES else place


def is_diverged(run: ExperimentRun) -> bool:
    """Whether a run's loss became NaN or infinite, or exploded."""
    record = run.record
    return record.stop_reason is StopReason.DIVERGED or not math.isfinite(record.ticks[-1].value)


def mean_words(counts: Collection[int], logs: Collection[bool], *, mark: str = "bars") -> list[str]:
    """Return what a caption says of means over so many seeds in several plots, of which some have log axes."""
    some = any(logs) and not all(logs)
    return [interval_words(counts, mark=mark, is_log=all(logs)), *(["on log axes: the geometric mean"] if some else [])]


def lost_words(runs: Iterable[ExperimentRun]) -> str | None:
    """Return what a caption says of runs that diverged, None where none did."""
    num = len({run.trial for run in runs if is_diverged(run)})
    if num == 0:
        return None
    return f"crosses: {num} diverged, whose best before that counts"


def interval_text(mean: SeedMean) -> str:
    """Return the mean with its interval and number of seeds, for a hover text."""
    if mean.num_seeds == 1:
        return f"<b>{_theme.number(mean.value)}</b> (one seed)"
    span = f"{_theme.number(mean.low, 3)} to {_theme.number(mean.high, 3)}"
    return f"<b>{_theme.number(mean.value)}</b> ({span}; {mean.num_seeds} seeds)"


def add_band(
    figure: go.Figure, x: Sequence[float], means: Sequence[SeedMean], *, place: int, group: str, row: int
) -> None:
    """Add the intervals of means as a band; nothing where no point has two seeds."""
    if all(mean.num_seeds < 2 for mean in means) or len(means) < 2:
        return
    floor = min(mean.value for mean in means) / 100.0  # for log axes, which have no zero
    lows = [max(mean.low, floor) if floor > 0 else mean.low for mean in means]
    figure.add_trace(
        go.Scatter(
            x=[*map(rounded, x), *map(rounded, reversed(x))],
            y=[*(rounded(mean.high) for mean in means), *map(rounded, reversed(lows))],
            fill="toself",
            fillcolor=_theme.faded(_theme.colour_of(place), 0.18),
            line={"width": 0},
            mode="lines",
            legendgroup=group,
            showlegend=False,
            hoverinfo="skip",
        ),
        row=row,
        col=1,
    )


def add_caption(figure: go.Figure, *sentences: str | None) -> None:
    """Say above the legend what bars or bands are, and what is left out."""
    lines = [sentence for sentence in sentences if sentence]
    text = "<br>".join(_theme.escape(line[:1].upper() + line[1:]) for line in lines)
    figure.update_layout(showlegend=True, legend={"title": {"text": text, "side": "top", "font": {"size": 12}}})


def is_wide(values: Collection[float]) -> bool:
    """Whether values are positive and lie so far apart that they belong on a log axis, averaged as logarithms."""
    found = [value for value in values if math.isfinite(value)]
    return bool(found) and min(found) > 0 and max(found) > _WIDE * min(found)


def value_axis(
    means: Collection[SeedMean], values: Collection[float], *, is_log: bool, from_zero: bool
) -> dict[str, Any]:
    """Return the scale of an axis for means and the values behind them; bars far beyond these are cut off."""
    found = [value for value in values if math.isfinite(value)]
    if not is_log:
        return {"rangemode": "tozero"} if from_zero else {}
    low, high = min(found), max(found)
    ends = [*(max(mean.low, low / 2.0) for mean in means), *(min(mean.high, 2.0 * high) for mean in means)]
    return _theme.value_axis((min([low, *ends]) / 1.1, max([high, *ends]) * 1.1), is_log=True)


def range_axis(values: Collection[float], *, is_log: bool) -> dict[str, Any]:
    """Return an axis that just holds these values: what lies outside may not flatten them."""
    found = [value for value in values if math.isfinite(value)]
    if not found:
        return {}
    if is_log:
        return _theme.value_axis((min(found) / 1.15, max(found) * 1.15), is_log=True)
    margin = 0.05 * (max(found) - min(found)) or 0.05 * abs(found[0]) or 1.0
    return {"range": (min(found) - margin, max(found) + margin)}


def rounded(value: float) -> float | None:
    """Return five digits, enough for a picture; None where a line has a gap."""
    return float(f"{value:.5g}") if math.isfinite(value) else None
