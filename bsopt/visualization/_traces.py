"""Traces and notes, once: lines, points, error bars, bands, fitted laws, hover texts, sentences and menus."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Protocol, TypeAlias

import plotly.graph_objects as go

from bsopt.trial.record import StudyInfo, TrialRecord
from bsopt.units import digits_telling, format_number
from bsopt.visualization._theme import GRID, Look, escape, faded, look_of, new_figure

__all__ = [
    "MENU_ROOM",
    "SENTENCE",
    "Interval",
    "add_axis_menu",
    "add_caption",
    "add_law",
    "add_sentence",
    "add_view_menu",
    "band",
    "bars",
    "caption_height",
    "describe",
    "empty_figure",
    "line",
    "points",
    "rounded",
    "span_text",
    "wrapped",
]

SENTENCE = "sentence"
"""Name of the annotation that `add_sentence` adds, for a page that has a better place for it."""

Positions: TypeAlias = "Sequence[float | None]"
Marker: TypeAlias = dict[str, Any]
CAPTION_WIDTH = 56
"""Characters of a caption's line: as many as fit beside each other on a phone."""
CAPTION_LINE = 16
"""Pixels of a caption's line."""
MENU_ROOM = 32
"""Pixels that a menu takes below the title."""
MOST_MARKERS = 12
"""On a curve of many points."""
DIGITS = 9
"""Significant digits that are drawn: values a million away from zero may differ by one, and are told apart."""


class Interval(Protocol):
    """A number with its interval: an `Estimate`, a mean over seeds."""

    @property
    def value(self) -> float: ...
    @property
    def low(self) -> float: ...
    @property
    def high(self) -> float: ...


def line(
    x: Positions,
    y: Sequence[float | None],
    look: Look,
    *,
    name: str,
    hover: str,
    text: Sequence[str] | None = None,
    group: str | None = None,
    showlegend: bool | None = None,
    width: float = 2.0,
    size: float = 6,
    is_curve: bool = False,
    shape: str | None = None,
    error_y: Marker | None = None,
) -> go.Scatter:
    """Return a line with markers, which has gaps where a value is None or not finite.

    Args:
        x: Where the points lie.
        y: Their values.
        look: Colour, marker and dash.
        name: In the legend, escaped.
        hover: What pointing at a point shows; may contain `%{x}`, `%{y}` and `%{text}`.
        text: Of each point.
        group: Traces of one group are switched on and off together.
        showlegend: Whether it stands in the legend.
        width: Of the line, in pixels.
        size: Of the markers, in pixels.
        is_curve: Whether points are so dense that only some get a marker.
        shape: How plotly joins the points; straight where None.
        error_y: What `bars` returned.
    """
    return go.Scatter(
        x=[rounded(value) for value in x],
        y=[rounded(value) for value in y],
        mode="lines+markers",
        name=name,
        legendgroup=group,
        showlegend=showlegend,
        line={"color": look.colour, "dash": look.dash, "width": width, "shape": shape},
        marker={
            "color": look.colour,
            "symbol": look.symbol,
            "size": size,
            "maxdisplayed": MOST_MARKERS if is_curve else None,
        },
        error_y=error_y,
        text=text,
        hovertemplate=f"{hover}<extra></extra>",
    )


def points(
    x: Positions,
    y: Sequence[float | None] | Sequence[str],
    marker: Marker,
    *,
    name: str | None = None,
    hover: str = "%{text}",
    text: Sequence[str] | None = None,
    group: str | None = None,
    showlegend: bool | None = None,
) -> go.Scatter:
    """Return markers alone; `marker` is plotly's, for the rest see `line`."""
    return go.Scatter(
        x=[rounded(value) for value in x],
        y=[value if isinstance(value, str) else rounded(value) for value in y],
        mode="markers",
        name=name,
        legendgroup=group,
        showlegend=showlegend,
        marker=marker,
        text=text,
        hovertemplate=f"{hover}<extra></extra>",
    )


def bars(intervals: Sequence[Interval], colour: str, *, is_shown: bool = True) -> Marker:
    """Return the error bars of values, for a trace's `error_y` or `error_x`."""
    return {
        "type": "data",
        "symmetric": False,
        "array": [rounded(max(0.0, one.high - one.value)) for one in intervals],
        "arrayminus": [rounded(max(0.0, one.value - one.low)) for one in intervals],
        "thickness": 1.5,
        "width": 4,
        "color": faded(colour, 0.85),
        "visible": is_shown,
    }


def band(
    x: Sequence[float],
    intervals: Sequence[Interval],
    fill: str,
    *,
    group: str | None = None,
    name: str | None = None,
) -> list[go.Scatter]:
    """Return the intervals as a filled band, in a list that is empty where fewer than two of them are bounded.

    Args:
        x: Where they lie.
        intervals: Those with an infinite bound are left out.
        fill: Colour of the area, with its opacity.
        group: Of the legend.
        name: In the legend; it isn't there without one.
    """
    bounded = [(at, one) for at, one in zip(x, intervals, strict=True) if math.isfinite(one.high + one.low)]
    if len(bounded) < 2:
        return []
    there, back = bounded, list(reversed(bounded))
    trace = go.Scatter(
        x=[rounded(at) for at, _ in [*there, *back]],
        y=[*(rounded(one.high) for _, one in there), *(rounded(one.low) for _, one in back)],
        fill="toself",
        fillcolor=fill,
        line={"width": 0},
        mode="lines",
        name=name,
        legendgroup=group,
        showlegend=name is not None,
        hoverinfo="skip",
    )
    return [trace]


def add_law(
    figure: go.Figure,
    x: Sequence[float],
    values: Sequence[Interval],
    place: int,
    *,
    name: str,
    row: int,
) -> None:
    """Add a fitted law as a line with its interval as a band; bounds that are infinite leave the band out there."""
    look = look_of(place)
    law = go.Scatter(
        x=list(x),
        y=[value.value for value in values],
        mode="lines",
        name=name,
        legendgroup=name,
        showlegend=row == 1,
        line={"color": look.colour, "width": 2, "dash": look.dash},
        text=[span_text(value) for value in values],
        hovertemplate="%{x:,.4~g}: <b>%{y:,.4~g}</b><br>90 %: %{text}<extra></extra>",
    )
    for trace in (*band(x, values, faded(look.colour, 0.18), group=name), law):
        figure.add_trace(trace, row=row, col=1)


def empty_figure(title: str, sentence: str) -> go.Figure:
    """Return a figure that says in a sentence why there is nothing to show."""
    figure = new_figure(title, height=180)
    figure.update_xaxes(visible=False)
    figure.update_yaxes(visible=False)
    figure.add_annotation(
        text=wrapped(sentence, 44), showarrow=False, x=0.5, y=0.5, xref="paper", yref="paper", font={"size": 14}
    )
    return figure


def add_sentence(figure: go.Figure, sentence: str) -> None:
    """Say in the upper right corner of a figure why a law isn't drawn, or what is left out."""
    figure.add_annotation(
        text=wrapped(sentence, 48),
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


def add_caption(figure: go.Figure, *sentences: str | None) -> None:
    """Say above the legend what bars or bands are, and what is left out, in lines that fit on a phone.

    The figure grows by these lines, so that the plot stays as high as it was.
    """
    lines = [f"{sentence[:1].upper()}{sentence[1:].removesuffix('.')}." for sentence in sentences if sentence]
    if not lines:
        return
    text = "<br>".join(wrapped(line, CAPTION_WIDTH) for line in lines)
    figure.update_layout(
        showlegend=True,
        legend={"title": {"text": text, "side": "top", "font": {"size": 12}}},
        height=figure.layout.height + caption_height(text),
    )


def caption_height(text: str) -> int:
    """Return what a caption adds to the height of its figure, in pixels."""
    return CAPTION_LINE * (text.count("<br>") + 1)


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
    buttons = [
        {"label": f"by {words.split(' [')[0]}", "method": "update", "args": [{"x": list(x)}, {title: words}]}
        for words, x in choices
    ]
    _add_menu(figure, buttons, active)


def add_view_menu(figure: go.Figure, views: Sequence[tuple[str, Sequence[bool], Marker]]) -> None:
    """Add a menu that chooses what the figure shows; the first view is what is drawn.

    Args:
        figure: Whose traces are shown and hidden.
        views: Label, whether each trace is shown, and what changes of the layout.
    """
    buttons = [
        {"label": label, "method": "update", "args": [{"visible": list(visible)}, layout]}
        for label, visible, layout in views
    ]
    _add_menu(figure, buttons, 0)


def _add_menu(figure: go.Figure, buttons: Sequence[Marker], active: int) -> None:
    menu = {
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
        "buttons": list(buttons),
    }
    figure.update_layout(margin={"t": figure.layout.margin.t + MENU_ROOM}, updatemenus=[menu])


def describe(record: TrialRecord, info: StudyInfo) -> str:
    """Return a trial's hover text, escaped."""
    size, value = (format_number(number, thousands=True) for number in (record.batch_size, record.value))
    lines = [
        f"<b>trial {record.number}</b>",
        f"batch size {size}, lr {format_number(record.lr, digits=3)}",
        f"{escape(info.objective.cost or info.objective.monitor)} {value}",
    ]
    if record.plan is not None and record.plan.accumulate_grad_batches * record.plan.world_size > 1:
        lines.append(escape(record.plan))
    if record.stop_reason is not None or record.outcome != "complete":
        lines.append(escape(record.ending))
    return "<br>".join(lines)


def span_text(interval: Interval, *, digits: int = 3) -> str:
    """Return an interval as people read it: "0.3 to 0.4"."""
    digits = digits_telling(interval.low, interval.high, digits=digits)
    low, high = (format_number(end, digits=digits, thousands=True) for end in (interval.low, interval.high))
    return f"{low} to {high}"


def rounded(value: float | None) -> float | None:
    """Return nine digits, enough for a picture; None, a gap, for what isn't finite. Whole numbers stay as they are.

    >>> rounded(1 / 3), rounded(1_000_030.25)
    (0.333333333, 1000030.25)
    """
    if value is None or not math.isfinite(value):
        return None
    return value if value == int(value) else float(f"{value:.{DIGITS}g}")


def wrapped(sentence: str, width: int) -> str:
    """Return a sentence in lines of so many characters at most, escaped; longer words are broken, where they can be.

    >>> wrapped("validation/f1_score (higher is better)", 14)
    'validation/f1_<br>score (higher<br>is better)'
    """
    lines = [""]
    for word in sentence.split():
        for place, part in enumerate(_parts(word, width)):
            if lines[-1] and (place or len(lines[-1]) + len(part) + 1 > width):
                lines.append("")
            lines[-1] = f"{lines[-1]} {part}".strip()
    return "<br>".join(escape(line) for line in lines)


def _parts(word: str, width: int) -> list[str]:
    """Return a word in parts of so many characters at most, broken behind a mark where one is near."""
    parts = []
    while len(word) > width:
        behind = max(word.rfind(mark, width // 3, width) for mark in "/_.-:") + 1
        parts.append(word[: behind or width])
        word = word[behind or width :]
    return [*parts, word]
