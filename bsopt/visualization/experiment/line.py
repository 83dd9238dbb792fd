"""The loss on the line between the minimizers of the smallest and of the largest batch size, over seeds."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from bsopt.experiment.measurements import Experiment, Minimizers
from bsopt.visualization import _theme
from bsopt.visualization.experiment import _drawing
from bsopt.visualization.experiment.seeds import SeedMean, interval_words, mean_over_seeds
from bsopt.visualization.study_data import Source

__all__ = ["ArmLine", "LineInfo", "experiment_line_info", "plot_experiment_line"]

TITLE = "Loss between the minimizers of the smallest and the largest batch"
_LOSSES = {"train": ("training loss", 0, "solid"), "validation": ("validation loss", 4, "dash")}


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
    _drawing.check_arms(arms)
    experiment = _drawing.experiment_in(study)
    if experiment is None:
        return LineInfo(None, (), _drawing.NO_EXPERIMENT)
    lines = [line for arm in arms if (line := _arm_line(experiment, arm)) is not None]
    message = (
        "The loss between the minimizers wasn't computed yet: `bsopt study analyze` does it, where the study kept "
        "its best weights (`checkpoints: all`)."
    )
    return LineInfo(experiment, tuple(lines), "" if lines else message)


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
        return _theme.empty_figure(TITLE, found.message)
    num = len(found.lines)
    figure = make_subplots(rows=num, cols=1, shared_xaxes=True, vertical_spacing=0.14 / num)
    _theme.style(figure, TITLE, height=320 * num + 140)
    means = [mean for line in found.lines for losses in line.losses.values() for mean in losses if mean is not None]
    values = [mean.value for mean in means]
    axis = _drawing.value_axis(means, values, is_log=_drawing.is_wide(values), from_zero=True)
    for row, line in enumerate(found.lines, start=1):
        for name, losses in line.losses.items():
            _draw(figure, line, name, losses, row=row)
        for alpha, size in zip((0.0, 1.0), line.batch_sizes, strict=True):
            figure.add_vline(x=alpha, line={"color": _theme.INK, "dash": "dot", "width": 1.5}, row=row, col=1)
            figure.add_annotation(
                x=alpha, y=1, yref="y domain", yanchor="bottom", text=f"B = {size}", showarrow=False,
                font={"size": 12}, row=row, col=1,
            )  # fmt: skip
        label = _drawing.arm_label(found.experiment.design, line.arm)
        figure.update_yaxes(title={"text": f"loss<br>{label}"}, **axis, row=row, col=1)
    figure.update_xaxes(title={"text": "α: position on the line"}, row=num, col=1)
    _drawing.add_caption(figure, interval_words([mean.num_seeds for mean in means], mark="bands", is_log=True))
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
    losses = {name: _means(alike, f"{name}_losses", len(alphas)) for name in _LOSSES}
    return ArmLine(arm, ends, alphas, {name: found for name, found in losses.items() if any(found)})


def _means(pairs: Sequence[Minimizers], key: str, num: int) -> tuple[SeedMean | None, ...]:
    curves = {pair.runs[0].seed: pair.result[key] for pair in pairs if pair.result.get(key)}
    found = []
    for place in range(num):
        values = {seed: float(curve[place]) for seed, curve in curves.items()}
        is_finite = bool(values) and all(0 < value < math.inf for value in values.values())
        found.append(mean_over_seeds(values, is_log=True) if is_finite else None)
    return tuple(found)


def _draw(figure: go.Figure, line: ArmLine, name: str, losses: Sequence[SeedMean | None], *, row: int) -> None:
    label, place, dash = _LOSSES[name]
    finite = [(alpha, mean) for alpha, mean in zip(line.alphas, losses, strict=True) if mean is not None]
    _drawing.add_band(
        figure, [alpha for alpha, _ in finite], [mean for _, mean in finite], place=place, group=name, row=row
    )
    figure.add_trace(
        go.Scatter(
            x=list(line.alphas),
            y=[_drawing.rounded(mean.value) if mean is not None else None for mean in losses],
            mode="lines+markers",
            name=label,
            legendgroup=name,
            showlegend=row == 1,
            line={"color": _theme.colour_of(place), "dash": dash, "width": 2},
            marker={"size": 5, "symbol": _theme.symbol_of(place)},
            text=[_drawing.interval_text(mean) if mean is not None else "" for mean in losses],
            hovertemplate=f"{label} at α = %{{x}}: %{{text}}<extra></extra>",
        ),
        row=row,
        col=1,
    )
