"""The loss on the straight line through two minimizers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import plotly.graph_objects as go

from bsopt.units import format_number
from bsopt.visualization import _traces
from bsopt.visualization._axes import is_wide, mean_axis, share_x_axis
from bsopt.visualization._theme import INK, Look, colour_of, escape, new_figure, symbol_of

if TYPE_CHECKING:
    from bsopt.analysis.interpolation import Interpolation

__all__ = ["ALPHA_AXIS", "LABELS", "LOOKS", "losses_line", "name_ends", "plot_interpolation"]

TITLE = "Loss between two minimizers"
LABELS = {"train": "training loss", "validation": "validation loss"}
LOOKS = {"train": Look(colour_of(0), symbol_of(0)), "validation": Look(colour_of(4), symbol_of(1), "dash")}
ALPHA_AXIS = {"title": {"text": "α: position on the line"}}


def plot_interpolation(result: Interpolation, *, first: str = "first", second: str = "second") -> go.Figure:
    """Plot training and validation loss at (1 − α)·first + α·second, as `bsopt.analysis.interpolate` found them.

    Keskar et al. 2016, figure 3; Chang & Pathak 2020, figure 18: a minimizer in a wide valley has low losses far
    around it, one in a narrow valley has walls.

    Args:
        result: What `bsopt.analysis.interpolate` returned.
        first: Name of the minimizer at α = 0 ("batch size 32").
        second: Name of that at α = 1.
    """
    losses = {"train": result.train_losses, "validation": result.validation_losses or ()}
    figure = new_figure(TITLE)
    for key, found in losses.items():
        if found:
            figure.add_trace(losses_line(key, result.alphas, found, [format_number(loss) for loss in found]))
    name_ends(figure, (first, second))
    share_x_axis(figure, ALPHA_AXIS, rows=1)
    values = [loss for found in losses.values() for loss in found]
    figure.update_yaxes(title={"text": "loss"}, **mean_axis((), values, is_log=is_wide(values), from_zero=False))
    return figure


def losses_line(key: str, alphas: Sequence[float], losses: Sequence[float | None], texts: Sequence[str]) -> go.Scatter:
    """Return training or validation losses (`key`, of `LABELS`) at places α on the line, with their hover texts."""
    name = LABELS[key]
    hover = f"{name} at α = %{{x}}: %{{text}}"
    return _traces.line(alphas, losses, LOOKS[key], name=name, hover=hover, text=texts, group=name, size=5)


def name_ends(figure: go.Figure, names: tuple[str, str], *, row: int = 1) -> None:
    """Mark and name the minimizers at α = 0 and at α = 1 in a plot of the figure."""
    for alpha, name in zip((0.0, 1.0), names, strict=True):
        figure.add_vline(x=alpha, line={"color": INK, "dash": "dot", "width": 1.5}, row=row, col=1)
        figure.add_annotation(
            x=alpha, y=1, yref="y domain", yanchor="bottom", text=escape(name), showarrow=False,
            font={"size": 12}, row=row, col=1,
        )  # fmt: skip
