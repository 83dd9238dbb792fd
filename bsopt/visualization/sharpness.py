"""Sharpness of the minimizers against their batch size."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import plotly.graph_objects as go

from bsopt.laws.estimate import Estimate
from bsopt.visualization import _traces
from bsopt.visualization._axes import batch_size_axis
from bsopt.visualization._theme import colour_of, escape, look_of, new_figure

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
        return _traces.empty_figure(TITLE, "No sharpness was computed, so there is nothing to draw.")
    figure = new_figure(TITLE)
    for place, (name, group) in enumerate(groups.items()):
        rows = [(size, group[size]) for size in sorted(group) if math.isfinite(group[size].value)]
        look = replace(look_of(place), colour=colour_of(4 * place))
        reach = [Estimate(result.value, _lowest(result.per_start, result.value), result.value) for _, result in rows]
        trace = _traces.line(
            [size for size, _ in rows],
            [result.value for _, result in rows],
            look,
            name=escape(name),
            hover="batch size %{x}: <b>%{y:.4~g}</b><br>%{text}",
            text=[f"loss {result.loss:.4g}, largest met {result.max_loss:.4g}" for _, result in rows],
            showlegend=len(groups) > 1,
            size=10,
            error_y=_traces.bars(reach, look.colour),
        )
        figure.add_trace(trace)
    figure.update_xaxes(**batch_size_axis([float(size) for size, _ in points]))
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
