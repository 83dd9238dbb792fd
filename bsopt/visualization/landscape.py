"""The loss around a minimizer, in two random directions."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import plotly.graph_objects as go

from bsopt.visualization import _traces
from bsopt.visualization._axes import log_ticks
from bsopt.visualization._theme import ACCENT, NARROW, VALUE_SCALE, panels

__all__ = ["Landscape", "plot_landscape"]

TITLE = "Loss around the minimizer"
NUM_LEVELS = 14


class Landscape(Protocol):
    """What is drawn of a `bsopt.analysis.Landscape2D`, which is one."""

    @property
    def alphas(self) -> Sequence[float]:
        """Steps α along d₁."""

    @property
    def betas(self) -> Sequence[float]:
        """Steps β along d₂."""

    @property
    def losses(self) -> Sequence[Sequence[float | None]]:
        """The loss at each β, then at each α."""

    @property
    def center_loss(self) -> float:
        """The loss at the minimizer itself."""


def plot_landscape(results: Landscape | Mapping[str, Landscape]) -> go.Figure:
    """Plot contours of f(x + α·d₁ + β·d₂) in filter-normalised directions, one panel per minimizer.

    All panels share their levels, so that wide and narrow valleys compare at a glance (Li et al. 2018, figure 5;
    Chang & Pathak 2020, figure 22).

    Args:
        results: What `bsopt.analysis.landscape_2d` returned, or name -> result for several minimizers.
    """
    results = results if isinstance(results, Mapping) else {"": results}
    if not results:
        return _traces.empty_figure(TITLE, "No landscape was computed, so there is nothing to draw.")
    losses = np.concatenate([np.asarray(panel.losses, dtype=float).ravel() for panel in results.values()])
    finite = losses[np.isfinite(losses) & (losses > 0)]
    if not finite.size:
        return _traces.empty_figure(TITLE, "Every loss around the minimizer is infinite: choose a smaller span.")
    low, high = math.log10(float(finite.min())), math.log10(float(finite.max()))
    figure = panels(TITLE, list(results), height=480, spacing=0.04, shared_y=True)
    figure.update_layout(margin={"t": figure.layout.margin.t + _traces.MENU_ROOM})  # for the panels' names
    ticks = log_ticks([float(finite.min()), float(finite.max())])
    for column, panel in enumerate(results.values(), start=1):
        z = np.asarray(panel.losses, dtype=float)
        z = np.where(np.isfinite(z) & (z > 0), z, finite.max())
        figure.add_trace(
            go.Contour(
                x=list(panel.alphas),
                y=list(panel.betas),
                z=np.log10(z).round(4).tolist(),
                customdata=z.round(6).tolist(),
                colorscale=VALUE_SCALE,
                reversescale=True,
                contours={"start": low, "end": high, "size": (high - low) / NUM_LEVELS or 1.0},
                line={"width": 0.6, "color": "rgba(128,128,128,0.7)"},
                showscale=column == len(results),
                colorbar={
                    "title": {"text": "loss", "side": "right"},
                    "thickness": 12,
                    "outlinewidth": 0,
                    "tickvals": [math.log10(tick) for tick in ticks],
                    "ticktext": [f"{tick:g}" for tick in ticks],
                },
                hovertemplate="α %{x:.2f}, β %{y:.2f}: <b>%{customdata:.4~g}</b><extra></extra>",
            ),
            row=1,
            col=column,
        )
        minimizer = _traces.points(
            [0],
            [0],
            {"symbol": "cross", "size": 10, "color": ACCENT},
            hover=f"minimizer: {panel.center_loss:.4g}",
            showlegend=False,
        )
        figure.add_trace(minimizer, row=1, col=column)
        figure.update_xaxes(title={"text": "α"}, showgrid=False, row=1, col=column)
    figure.update_yaxes(showgrid=False)
    figure.update_yaxes(title={"text": "β"}, row=1, col=1)
    if len(results) > 1:
        figure.update_layout(meta={NARROW: _one_below_the_other(figure, len(results))})
    return figure


def _one_below_the_other(figure: go.Figure, num: int) -> dict[str, Any]:
    """Return the layout of the same panels for a page that is too narrow for them side by side."""
    gap = 0.08
    height = (1.0 - gap * (num - 1)) / num
    tops = [1.0 - place * (height + gap) for place in range(num)]
    layout: dict[str, Any] = {"height": 280 * num + 60}
    for place, top in enumerate(tops):
        suffix = "" if place == 0 else str(place + 1)
        layout[f"xaxis{suffix}"] = {"domain": [0.0, 1.0], "showticklabels": place == num - 1, "title": {"text": ""}}
        layout[f"yaxis{suffix}"] = {"domain": [max(0.0, top - height), top], "showticklabels": True}
    layout[f"xaxis{num}"]["title"] = {"text": "α"}
    names = [note.to_plotly_json() for note in figure.layout.annotations]
    layout["annotations"] = [{**name, "x": 0.5, "y": top} for name, top in zip(names, tops, strict=True)]
    return layout
