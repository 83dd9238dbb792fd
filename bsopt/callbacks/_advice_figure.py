"""The figure of a BatchSizeAdvisor's advice."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bsopt.laws.batch_size_advice import Advice

if TYPE_CHECKING:
    import plotly.graph_objects as go

__all__ = ["plot_advice"]


def plot_advice(advice: Advice) -> go.Figure:
    """Plot the factors on steps, samples and time against the batch size, with the current one marked."""
    import plotly.graph_objects as go

    figure = go.Figure()
    figure.update_layout(
        title="What another batch size would do",
        xaxis={"title": "global batch size (samples)", "type": "log"},
        yaxis={"title": "factor, relative to now", "type": "log"},
        template="plotly_white",
    )
    if not advice.options:
        figure.add_annotation(text=advice.certainty, showarrow=False, xref="paper", yref="paper", x=0.5, y=0.5)
        return figure
    sizes = [option.batch_size for option in advice.options]
    bands = (
        ("steps", "#0072B2", [o.steps_low for o in advice.options], [o.steps_high for o in advice.options]),
        ("time", "#E69F00", [o.time_low for o in advice.options], [o.time_high for o in advice.options]),
    )
    for name, colour, low, high in bands:
        figure.add_scatter(
            x=[*sizes, *reversed(sizes)],
            y=[*high, *reversed(low)],
            fill="toself",
            line={"width": 0},
            fillcolor=colour,
            opacity=0.25,
            name=f"{name}, range",
            hoverinfo="skip",
        )
    for name, colour in (("steps", "#0072B2"), ("samples", "#009E73")):
        values = [getattr(option, name) for option in advice.options]
        figure.add_scatter(x=sizes, y=values, mode="lines+markers", line={"color": colour}, name=name)
    figure.add_vline(x=advice.batch_size, line_dash="dash", annotation_text="now")
    return figure
