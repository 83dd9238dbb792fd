"""One look for all figures: readable on light and dark pages, in print and to colour-blind readers.

Backgrounds are transparent. Text and grid are greys with the same contrast (4.2:1) on white and on near-black; a
page that knows its own background may override them (the report does so with CSS). Series colours are those of
Okabe & Ito (2008), in an order from cold to warm, without the yellow that vanishes on white; every series also has
its own marker and dash. Values are coloured by cividis (Nuñez et al. 2018), made for colour-blind readers.
"""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import plotly.graph_objects as go

from bsopt.laws.estimate import Estimate
from bsopt.trial.record import StudyInfo, TrialRecord
from bsopt.visualization.study_data import Status

__all__ = [
    "ACCENT",
    "GRID",
    "INK",
    "MARKERS",
    "SENTENCE",
    "VALUE_SCALE",
    "add_axis_menu",
    "add_law",
    "add_sentence",
    "batch_size_axis",
    "colour_of",
    "dash_of",
    "describe",
    "empty_figure",
    "escape",
    "faded",
    "log_ticks",
    "lr_axis",
    "new_figure",
    "number",
    "spans_decades",
    "symbol_of",
    "value_axis",
    "value_label",
]

INK = "#7b7d82"
GRID = "rgba(128,128,128,0.22)"
ACCENT = "#D55E00"
SENTENCE = "sentence"
"""Name of the annotation that `add_sentence` adds, for a page that has a better place for it."""
_WIDE = 20.0  # from this ratio of the worst to the best value on, a value axis is logarithmic
VALUE_SCALE = "Cividis"
SERIES = ("#2B7BBA", "#4BA3D9", "#009E73", "#C98A00", "#D55E00", "#CC79A7", "#7F7F8C")
SYMBOLS = ("circle", "square", "diamond", "triangle-up", "cross", "star", "pentagon", "hexagon", "triangle-down")
DASHES = ("solid", "dash", "dot", "dashdot", "longdash")

MARKERS: dict[Status, dict[str, Any]] = {
    Status.COMPLETE: {"symbol": "circle", "size": 11},
    Status.PRUNED: {"symbol": "triangle-down", "size": 9},
    Status.DIVERGED: {"symbol": "x-thin", "size": 9, "color": "#D55E00", "line": {"width": 2, "color": "#D55E00"}},
    Status.OUT_OF_MEMORY: {"symbol": "square-x-open", "size": 10, "color": "#CC79A7", "line": {"width": 1.5}},
    Status.FAILED: {"symbol": "hash-open", "size": 9, "color": INK, "line": {"width": 1.5}},
    Status.RUNNING: {"symbol": "circle-open-dot", "size": 9, "color": "#4BA3D9", "line": {"width": 1.5}},
}


def new_figure(title: str, *, height: int = 460) -> go.Figure:
    """Return an empty figure in the house's look; `title` may hold user text, which is escaped here."""
    return style(go.Figure(), title, height=height)


def style(figure: go.Figure, title: str, *, height: int = 460) -> go.Figure:
    """Give a figure (with its subplots) the house's look and a title, which is escaped here."""
    axis = {
        "gridcolor": GRID,
        "linecolor": INK,
        "tickcolor": INK,
        "zeroline": False,
        "showline": True,
        "ticks": "outside",
        "automargin": True,
        "title": {"standoff": 8},
    }
    figure.update_layout(
        template="none",
        title={"text": escape(title), "x": 0.0, "xref": "paper", "xanchor": "left", "font": {"size": 16}},
        font={"family": "system-ui, -apple-system, 'Segoe UI', Roboto, Arial, sans-serif", "size": 13, "color": INK},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        colorway=list(SERIES),
        height=height,
        margin={"l": 64, "r": 16, "t": 52, "b": 56},
        legend={
            "orientation": "h",
            "yref": "container",
            "y": 0.01,
            "yanchor": "bottom",
            "x": 0,
            "bgcolor": "rgba(0,0,0,0)",
        },
        modebar={"bgcolor": "rgba(0,0,0,0)", "color": INK, "activecolor": ACCENT},
        hoverlabel={"align": "left", "font": {"size": 12}},
    )
    figure.update_xaxes(**axis)
    figure.update_yaxes(**axis)
    return figure


def empty_figure(title: str, sentence: str) -> go.Figure:
    """Return a figure that says in a sentence why there is nothing to show."""
    figure = new_figure(title, height=180)
    figure.update_xaxes(visible=False)
    figure.update_yaxes(visible=False)
    figure.add_annotation(
        text="<br>".join(escape(line) for line in _wrapped(sentence)),
        showarrow=False,
        x=0.5,
        y=0.5,
        xref="paper",
        yref="paper",
        font={"size": 14},
    )
    return figure


def add_sentence(figure: go.Figure, sentence: str) -> None:
    """Say in the upper right corner of a figure why a law isn't drawn, or what is left out."""
    figure.add_annotation(
        text="<br>".join(escape(line) for line in _wrapped(sentence, 48)),
        showarrow=False,
        align="right",
        x=1,
        y=1,
        xref="paper",
        yref="paper",
        xanchor="right",
        yanchor="top",
        font={"size": 11},
        name=SENTENCE,
    )


def escape(text: str) -> str:
    """Return user text safe for plotly, which reads a subset of HTML in titles, names and hover texts."""
    return html.escape(str(text), quote=False)


def number(value: float | None, digits: int = 4) -> str:
    """Return a number as people write it: 0.0123, 1.2e-05, 12,800; a dash for None.

    >>> number(0.01234567), number(12800), number(None)
    ('0.01235', '12,800', '–')
    """
    if value is None:
        return "–"
    if not math.isfinite(value):
        return "NaN" if math.isnan(value) else ("∞" if value > 0 else "−∞")
    if value == int(value) and abs(value) < 1e9:
        return f"{int(value):,}"
    if abs(value) >= 10 ** (digits - 1):
        return f"{value:,.0f}" if abs(value) < 1e9 else f"{value:.{digits - 1}g}"
    return f"{value:.{digits}g}"


def value_label(info: StudyInfo) -> str:
    """Return what a study's value is called on an axis, with its unit and direction, escaped."""
    objective = info.objective
    if objective.cost is not None:
        unit = {"seconds": "s", "samples": "samples", "steps": "updates", "energy": "J"}[objective.cost]
        return f"{objective.cost} to {escape(objective.monitor)} = {number(objective.target)} [{unit}]"
    return f"{escape(objective.monitor)} ({'lower' if objective.direction == 'minimize' else 'higher'} is better)"


def batch_size_axis(sizes: Sequence[float]) -> dict[str, Any]:
    """Return a log axis for global batch sizes in samples, with ticks at those that were run."""
    found = sorted({float(size) for size in sizes if size > 0})
    ticks = found
    if len(found) > 9 or any(b / a < 1.3 for a, b in pairwise(found)):
        low, high = (math.floor(math.log2(found[0])), math.ceil(math.log2(found[-1]))) if found else (3, 10)
        step = max(1, (high - low) // 8 + 1) if high - low > 9 else 1
        ticks = [2.0**k for k in range(low, high + 1, step)]
    return {
        "type": "log",
        "title": {"text": "global batch size [samples per update]"},
        "tickvals": ticks,
        "ticktext": [f"{tick:g}" if tick < 1e6 else f"{tick:.2g}" for tick in ticks],
        "minor": {"showgrid": False},
    }


def lr_axis(rates: Sequence[float]) -> dict[str, Any]:
    """Return a log axis for learning rates."""
    ticks = log_ticks(rates)
    return {
        "type": "log",
        "title": {"text": "learning rate"},
        "tickvals": ticks,
        "ticktext": [f"{tick:g}" for tick in ticks],
    }


def value_axis(value_range: tuple[float, float] | None, *, is_log: bool) -> dict[str, Any]:
    """Return the range and scale of an axis for values, whose range is in the values' own unit."""
    if value_range is None or not is_log:
        return {"range": value_range}
    ticks = log_ticks(value_range)
    return {
        "type": "log",
        "range": [math.log10(value) for value in value_range],
        "tickvals": ticks,
        "ticktext": [f"{tick:g}" for tick in ticks],
    }


def spans_decades(values: Sequence[float]) -> bool:
    """Whether values are all positive and so far apart that a linear axis would squash the good ones."""
    return bool(values) and min(values) > 0 and max(values) > _WIDE * min(values)


def log_ticks(values: Sequence[float]) -> list[float]:
    """Return round numbers that cover positive values: decades, or steps within them where there are few decades.

    >>> log_ticks([0.02, 0.07])
    [0.01, 0.015, 0.02, 0.03, 0.05, 0.07, 0.1]
    """
    finite = [value for value in values if value > 0 and math.isfinite(value)]
    if not finite:
        return [1.0]
    low, high = math.floor(math.log10(min(finite))), math.ceil(math.log10(max(finite)))
    steps: tuple[float, ...] = (1, 2, 5) if high - low <= 2 else ((1, 3) if high - low <= 3 else (1,))
    if max(finite) <= 5.0 * min(finite):
        steps = (1, 1.5, 2, 3, 5, 7)
    ticks = [float(f"{step}e{power}") for power in range(low, high + 1) for step in steps]
    return [tick for tick in ticks if tick <= 10.0**high * (1.0 + 1e-9)]


def add_law(
    figure: go.Figure,
    x: Sequence[float],
    values: Sequence[Estimate],
    place: int,
    *,
    name: str,
    showlegend: bool = True,
    row: int | None = None,
) -> None:
    """Add a fitted law as a line with its interval as a band; bounds that are infinite leave the band out there."""
    subplot = {} if row is None else {"row": row, "col": 1}
    colour = colour_of(place)
    bounded = [(at, value) for at, value in zip(x, values, strict=True) if math.isfinite(value.high + value.low)]
    if len(bounded) > 1:
        figure.add_trace(
            go.Scatter(
                x=[at for at, _ in bounded] + [at for at, _ in reversed(bounded)],
                y=[value.high for _, value in bounded] + [value.low for _, value in reversed(bounded)],
                fill="toself",
                fillcolor=faded(colour, 0.18),
                line={"width": 0},
                mode="lines",
                legendgroup=name,
                showlegend=False,
                hoverinfo="skip",
            ),
            **subplot,
        )
    figure.add_trace(
        go.Scatter(
            x=list(x),
            y=[value.value for value in values],
            mode="lines",
            name=name,
            legendgroup=name,
            showlegend=showlegend,
            line={"color": colour, "width": 2, "dash": dash_of(place)},
            text=[f"{number(value.low, 3)} to {number(value.high, 3)}" for value in values],
            hovertemplate="%{x:,.4~g}: <b>%{y:,.4~g}</b><br>90 %: %{text}<extra></extra>",
        ),
        **subplot,
    )


def add_axis_menu(
    figure: go.Figure, choices: Sequence[tuple[str, Sequence[object]]], active: int, *, row: int = 1
) -> None:
    """Add a menu that chooses what the x axis shows.

    Args:
        figure: Whose traces are moved.
        choices: Title of the axis ("training time [s]"), and the x values of every trace.
        active: Index of the choice that is drawn.
        row: Of the subplot whose axis has the title; the last one.
    """
    title = f"xaxis{row if row > 1 else ''}.title.text"
    figure.update_layout(
        margin={"t": 84},
        updatemenus=[
            {
                "type": "dropdown",
                "x": 0,
                "xanchor": "left",
                "y": 1.01,
                "yanchor": "bottom",
                "active": active,
                "bgcolor": "rgba(128,128,128,0.12)",
                "bordercolor": GRID,
                "pad": {"t": 0, "b": 0, "l": 4, "r": 4},
                "font": {"size": 12},
                "buttons": [
                    {
                        "label": f"by {words.split(' [')[0]}",
                        "method": "update",
                        "args": [{"x": list(x)}, {title: words}],
                    }
                    for words, x in choices
                ],
            }
        ],
    )


def colour_of(index: int) -> str:
    """Return the series colour at an index."""
    return SERIES[index % len(SERIES)]


def symbol_of(index: int) -> str:
    """Return the marker symbol at an index."""
    return SYMBOLS[index % len(SYMBOLS)]


def dash_of(index: int) -> str:
    """Return the line dash at an index: the first turn through the colours is solid, the next ones are not."""
    return DASHES[index // len(SERIES) % len(DASHES)]


def faded(colour: str, opacity: float) -> str:
    """Return `#rrggbb` with an opacity.

    >>> faded("#0080ff", 0.5)
    'rgba(0,128,255,0.5)'
    """
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red},{green},{blue},{opacity:g})"


def describe(record: TrialRecord, info: StudyInfo) -> str:
    """Return a trial's hover text, escaped."""
    lines = [
        f"<b>trial {record.number}</b>",
        f"batch size {number(record.batch_size)}, lr {number(record.lr, 3)}",
        f"{escape(info.objective.cost or info.objective.monitor)} {number(record.value)}",
    ]
    if record.plan is not None and record.plan.accumulate_grad_batches * record.plan.world_size > 1:
        lines.append(escape(str(record.plan)))
    if record.stop_reason is not None:
        lines.append(escape(record.stop_reason.words))
    elif record.outcome != "complete":
        lines.append(record.outcome)
    return "<br>".join(lines)


def _wrapped(sentence: str, width: int = 60) -> list[str]:
    lines = [""]
    for word in sentence.split():
        if lines[-1] and len(lines[-1]) + len(word) + 1 > width:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    return lines
