"""The loss on the line between the minimizers of the smallest and of the largest batch size, over seeds."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import plotly.graph_objects as go

from bsopt.experiment.measurements import Experiment, Minimizers
from bsopt.experiment.seed_statistics import SeedMean, mean_over_seeds
from bsopt.visualization import _traces
from bsopt.visualization._axes import is_wide, mean_axis, share_x_axis
from bsopt.visualization._theme import stacked_figure
from bsopt.visualization.experiment._arms import (
    NOT_ANALYSED,
    arm_label,
    experiment_or_reason,
    interval_words,
    mean_band,
    mean_text,
)
from bsopt.visualization.line_between import ALPHA_AXIS, LABELS, LOOKS, losses_line, name_ends
from bsopt.visualization.study_data import Source

__all__ = ["ArmLine", "LineInfo", "experiment_line_info", "plot_experiment_line"]

TITLE = "Loss between the minimizers of the smallest and the largest batch"


@dataclass(frozen=True, slots=True)
class ArmLine:
    """One arm.

    Attributes:
        arm: Name.
        batch_sizes: Of the minimizers at α = 0 and at α = 1.
        alphas: Places on the line (1 − α)·first + α·second.
        losses: "train" and "validation" -> geometric mean over seeds at each place; None where a loss was infinite.
    """

    arm: str
    batch_sizes: tuple[int, int]
    alphas: tuple[float, ...]
    losses: Mapping[str, tuple[SeedMean | None, ...]]


@dataclass(frozen=True, slots=True)
class LineInfo:
    """What the figure shows: a line per arm, or why there is none."""

    experiment: Experiment | None
    lines: tuple[ArmLine, ...]
    message: str


def experiment_line_info(study: Source, *, arms: Sequence[str] = ("fixed_lr", "scaled_lr")) -> LineInfo:
    """Return the losses between the best weights of an arm's smallest and largest batch size, where computed."""
    experiment = experiment_or_reason(study, arms, needs_runs=False)
    if isinstance(experiment, str):
        return LineInfo(None, (), experiment)
    lines = [line for arm in arms if (line := _arm_line(experiment, arm)) is not None]
    return LineInfo(experiment, tuple(lines), "" if lines else f"The loss between the minimizers {NOT_ANALYSED}")


def plot_experiment_line(study: Source, *, arms: Sequence[str] = ("fixed_lr", "scaled_lr")) -> go.Figure:
    """Plot training and validation loss between the best weights of the smallest and of the largest batch size.

    Chang & Pathak 2020, figure 18: around a minimizer in a wide valley the loss rises slowly, around one in a narrow
    valley steeply. Each seed's line joins its own two runs, which started from the same weights.

    Args:
        study: A study with an experiment whose weights were examined.
        arms: A plot for each that was examined.

    Raises:
        ConfigError: An arm is unknown.
    """
    found = experiment_line_info(study, arms=arms)
    if found.experiment is None or not found.lines:
        return _traces.empty_figure(TITLE, found.message)
    num = len(found.lines)
    figure = stacked_figure(TITLE, num, height=320 * num + 140, spacing=0.14 / num)
    means = [mean for line in found.lines for losses in line.losses.values() for mean in losses if mean is not None]
    values = [mean.value for mean in means]
    axis = mean_axis(means, values, is_log=is_wide(values), from_zero=True)
    for row, line in enumerate(found.lines, start=1):
        small, large = line.batch_sizes
        for key, losses in line.losses.items():
            for trace in _traces_of(key, line.alphas, losses):
                figure.add_trace(trace if row == 1 else trace.update(showlegend=False), row=row, col=1)
        name_ends(figure, (f"B = {small}", f"B = {large}"), row=row)
        label = arm_label(found.experiment.design, line.arm)
        figure.update_yaxes(title={"text": f"loss<br>{label}"}, **axis, row=row, col=1)
    share_x_axis(figure, ALPHA_AXIS, rows=num)
    figure.update_layout(margin={"t": figure.layout.margin.t + 16})  # for the names of the ends
    _traces.add_caption(figure, interval_words([mean.num_seeds for mean in means], mark="bands", is_log=True))
    return figure


def _arm_line(experiment: Experiment, arm: str) -> ArmLine | None:
    ends = (experiment.design.batch_sizes[0], experiment.design.batch_sizes[-1])
    pairs = [
        pair
        for pair in experiment.lines
        if all(arm in run.arms for run in pair.runs) and tuple(run.batch_size for run in pair.runs) == ends
    ]
    if arm == "grid" or not pairs:
        return None
    alphas = tuple(float(alpha) for alpha in pairs[-1].result["alphas"])
    alike = [pair for pair in pairs if tuple(pair.result["alphas"]) == alphas]
    losses = {name: _means(alike, f"{name}_losses", len(alphas)) for name in LABELS}
    return ArmLine(arm, ends, alphas, {name: found for name, found in losses.items() if any(found)})


def _means(pairs: Sequence[Minimizers], key: str, num: int) -> tuple[SeedMean | None, ...]:
    curves = {pair.runs[0].seed: pair.result[key] for pair in pairs if pair.result.get(key)}
    found = []
    for place in range(num):
        values = {seed: float(curve[place]) for seed, curve in curves.items()}
        is_finite = bool(values) and all(0 < value < math.inf for value in values.values())
        found.append(mean_over_seeds(values, is_log=True) if is_finite else None)
    return tuple(found)


def _traces_of(key: str, alphas: Sequence[float], means: Sequence[SeedMean | None]) -> list[go.Scatter]:
    finite = [(alpha, mean) for alpha, mean in zip(alphas, means, strict=True) if mean is not None]
    bands = mean_band([at for at, _ in finite], [mean for _, mean in finite], LOOKS[key], group=LABELS[key])
    values = [mean.value if mean is not None else None for mean in means]
    texts = [mean_text(mean) if mean is not None else "" for mean in means]
    return [*bands, losses_line(key, alphas, values, texts)]
