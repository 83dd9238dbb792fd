"""Sharpness of the minimizers against their batch size."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import plotly.graph_objects as go

from bsopt.visualization import _theme

if TYPE_CHECKING:
    from bsopt.analysis.sharpness import AdaptiveSharpness, Sharpness

__all__ = ["plot_sharpness"]

TITLE = "Sharpness of the minimizers"


def plot_sharpness(
    results: Mapping[int, Sharpness | AdaptiveSharpness] | Mapping[str, Mapping[int, Sharpness | AdaptiveSharpness]],
) -> go.Figure:
    """Plot the sharpness of a minimizer per batch size; the bars reach over the starts of the maximisation.

    Keskar et al. 2016; Chang & Pathak 2020, figures 21 and 26. Sharpness tracks the learning rate more than
    generalisation (Andriushchenko et al. 2023): read it as a description, not as a goal.

    Args:
        results: Global batch size -> what `bsopt.analysis.keskar_sharpness` returned, or such a mapping per name
            ("one learning rate", "scaled learning rates").
    """
    groups = _groups(results)
    points = [(size, result) for group in groups.values() for size, result in group.items()]
    if not points:
        return _theme.empty_figure(TITLE, "No sharpness was computed, so there is nothing to draw.")
    figure = _theme.new_figure(TITLE)
    for place, (name, group) in enumerate(groups.items()):
        rows = [(size, group[size]) for size in sorted(group) if math.isfinite(group[size].value)]
        figure.add_trace(
            go.Scatter(
                x=[size for size, _ in rows],
                y=[result.value for _, result in rows],
                mode="lines+markers",
                name=_theme.escape(name),
                showlegend=len(groups) > 1,
                line={"color": _theme.colour_of(4 * place), "dash": _theme.dash_of(place)},
                marker={"size": 10, "symbol": _theme.symbol_of(place)},
                error_y={
                    "type": "data",
                    "symmetric": False,
                    "array": [0.0] * len(rows),
                    "arrayminus": [result.value - _lowest(result.per_start, result.value) for _, result in rows],
                    "thickness": 1,
                },
                text=[f"loss {result.loss:.4g}, largest met {result.max_loss:.4g}" for _, result in rows],
                hovertemplate="batch size %{x}: <b>%{y:.4~g}</b><br>%{text}<extra></extra>",
            )
        )
    figure.update_xaxes(**_theme.batch_size_axis([float(size) for size, _ in points]))
    figure.update_yaxes(title={"text": "sharpness"}, rangemode="tozero")
    return figure


def _groups(
    results: Mapping[int, Sharpness | AdaptiveSharpness] | Mapping[str, Mapping[int, Sharpness | AdaptiveSharpness]],
) -> dict[str, dict[int, Sharpness | AdaptiveSharpness]]:
    groups: dict[str, dict[int, Sharpness | AdaptiveSharpness]] = {}
    for key, value in results.items():
        if isinstance(value, Mapping):
            groups[str(key)] = dict(value)
        else:
            groups.setdefault("", {})[int(key)] = value
    return groups


def _lowest(per_start: Sequence[float], value: float) -> float:
    return min((start for start in per_start if math.isfinite(start)), default=value)
