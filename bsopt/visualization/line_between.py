"""The loss on the straight line through two minimizers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import plotly.graph_objects as go

from bsopt.units import format_number
from bsopt.visualization import _traces
from bsopt.visualization._axes import is_wide, mean_axis, share_x_axis
from bsopt.visualization._theme import Look, colour_of, new_figure, symbol_of

if TYPE_CHECKING:
    from bsopt.analysis.interpolation import Interpolation

__all__ = ["ALPHA_AXIS", "LABELS", "LOOKS", "LossLine", "draw_losses", "plot_interpolation"]

TITLE = "Loss between two minimizers"
LABELS = {"train": "training loss", "validation": "validation loss"}
LOOKS = {"train": Look(colour_of(0), symbol_of(0)), "validation": Look(colour_of(4), symbol_of(1), "dash")}
ALPHA_AXIS = {"title": {"text": "α: position on the line"}}


@dataclass(frozen=True, slots=True)
class LossLine:
    """A loss as it is drawn: at places α on the line, with hover texts, and with a band, if any."""

    name: str
    look: Look
    alphas: tuple[float, ...]
    losses: tuple[float | None, ...]
    texts: tuple[str, ...]
    band: Sequence[go.Scatter] = ()


def plot_interpolation(result: Interpolation, *, first: str = "first", second: str = "second") -> go.Figure:
    """Plot training and validation loss at (1 − α)·first + α·second, as `bsopt.analysis.interpolate` found them.

    Keskar et al. 2016, figure 3; Chang & Pathak 2020, figure 18: a minimizer in a wide valley has low losses far
    around it, one in a narrow valley has walls.

    Args:
        result: What `bsopt.analysis.interpolate` returned.
        first: Name of the minimizer at α = 0 ("batch size 32").
        second: Name of that at α = 1.
    """
    losses = {"train": result.train_losses}
    if result.validation_losses is not None:
        losses["validation"] = result.validation_losses
    lines = [
        LossLine(LABELS[key], LOOKS[key], tuple(result.alphas), tuple(found), tuple(format_number(v) for v in found))
        for key, found in losses.items()
    ]
    values = [loss for line in lines for loss in line.losses if loss is not None]
    figure = new_figure(TITLE)
    draw_losses(figure, lines, (first, second))
    share_x_axis(figure, ALPHA_AXIS, rows=1)
    figure.update_yaxes(title={"text": "loss"}, **mean_axis((), values, is_log=is_wide(values), from_zero=False))
    return figure


def draw_losses(figure: go.Figure, lines: Sequence[LossLine], ends: tuple[str, str], *, row: int = 1) -> None:
    """Draw losses on the line between two minimizers into a plot of the figure, and name both ends."""
    for line in lines:
        trace = _traces.line(
            line.alphas,
            line.losses,
            line.look,
            name=line.name,
            hover=f"{line.name} at α = %{{x}}: %{{text}}",
            text=line.texts,
            group=line.name,
            showlegend=row == 1,
            size=5,
        )
        for drawn in (*line.band, trace):
            figure.add_trace(drawn, row=row, col=1)
    for alpha, name in zip((0.0, 1.0), ends, strict=True):
        _traces.add_upright(figure, alpha, name, row=row)
