"""The loss on the straight line through two minimizers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import plotly.graph_objects as go

from bsopt.visualization import _theme

if TYPE_CHECKING:
    from bsopt.analysis.interpolation import Interpolation

__all__ = ["plot_interpolation"]

TITLE = "Loss between two minimizers"


def plot_interpolation(result: Interpolation, *, first: str = "first", second: str = "second") -> go.Figure:
    """Plot training and validation loss at (1 − α)·first + α·second, as `bsopt.analysis.interpolate` found them.

    Keskar et al. 2016, figure 3; Chang & Pathak 2020, figure 18: a minimizer in a wide valley has low losses far
    around it, one in a narrow valley has walls.

    Args:
        result: What `bsopt.analysis.interpolate` returned.
        first: Name of the minimizer at α = 0 ("batch size 32").
        second: Name of that at α = 1.
    """
    figure = _theme.new_figure(TITLE)
    lines = [("training loss", result.train_losses, "solid")]
    if result.validation_losses is not None:
        lines.append(("validation loss", result.validation_losses, "dash"))
    for place, (name, losses, dash) in enumerate(lines):
        figure.add_trace(
            go.Scatter(
                x=list(result.alphas),
                y=[loss if math.isfinite(loss) else None for loss in losses],
                mode="lines+markers",
                name=name,
                line={"color": _theme.colour_of(4 * place), "dash": dash, "width": 2},
                marker={"size": 5, "symbol": _theme.symbol_of(place)},
                hovertemplate=f"{name} at α = %{{x}}: <b>%{{y:.4~g}}</b><extra></extra>",
            )
        )
    for alpha, name in ((0.0, first), (1.0, second)):
        figure.add_vline(x=alpha, line={"color": _theme.INK, "dash": "dot", "width": 1.5})
        figure.add_annotation(
            x=alpha, y=1, yref="paper", yanchor="bottom", text=_theme.escape(name), showarrow=False, font={"size": 12}
        )
    figure.update_xaxes(title={"text": "α: position on the line"})
    values = [loss for _, losses, _ in lines for loss in losses]
    figure.update_yaxes(title={"text": "loss"}, **_loss_axis(values))
    return figure


def _loss_axis(values: Sequence[float]) -> dict[str, object]:
    """A log axis where losses span over two decades, as they do outside the valley."""
    finite = [value for value in values if math.isfinite(value) and value > 0]
    if not finite or len(finite) < len(values) / 2 or max(finite) / min(finite) < 100:
        return {}
    ticks = _theme.log_ticks(finite)
    return {"type": "log", "tickvals": ticks, "ticktext": [f"{tick:g}" for tick in ticks]}
