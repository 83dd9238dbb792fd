"""One look for all figures: readable on light and dark pages, in print and to colour-blind readers.

Backgrounds are transparent. Text and grid are greys with the same contrast (4.2:1) on white and on near-black; a
page that knows its own background may override them (the report does so with CSS), and so do the templates
`bsopt_light` and `bsopt_dark`, for one figure or, as `plotly.io.templates.default`, for all that are drawn after.
Series colours are those of Okabe & Ito (2008), in an order from cold to warm, without the yellow that vanishes on
white; every series also has its own marker and dash. Values are coloured by cividis (Nuñez et al. 2018), made for
colour-blind readers.
"""

from __future__ import annotations

import html
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import plotly.graph_objects as go
import plotly.io as pio
from plotly.subplots import make_subplots

from bsopt.visualization.study_data import Status

__all__ = [
    "ACCENT",
    "GOOD_TO_BAD",
    "GRID",
    "INK",
    "MARKERS",
    "NARROW",
    "STAR",
    "TEMPLATES",
    "TITLE_ROOM",
    "VALUE_SCALE",
    "Look",
    "colour_of",
    "escape",
    "faded",
    "look_of",
    "new_figure",
    "panels",
    "stacked_figure",
    "symbol_of",
]

TITLE_WIDTH = 44
"""Characters of a line of the title: as many as fit on a phone."""
TITLE_ROOM = 52
"""Pixels above the plots for the title; a menu needs more."""
NARROW = "narrow"
"""Key in a layout's `meta` of what a page of less than 560 pixels changes of the layout."""
INK = "#7b7d82"
GRID = "rgba(128,128,128,0.22)"
ACCENT = "#D55E00"
VALUE_SCALE = "Cividis"
VALUE_TICKS = {"separatethousands": True, "exponentformat": "e", "minexponent": 6}
"""Values are written as in the text: 1,000,031 and 3e-10, where plotly's default is 1.000031M and 300p."""
GOOD_TO_BAD = ((0.0, "#B5006E"), (0.35, "#D8629F"), (0.7, "#B59AAB"), (1.0, "#8E9096"))
"""For marks on any page: the better, the more vivid; bad ones fade into the grey of axes."""
SERIES = ("#2B7BBA", "#4BA3D9", "#009E73", "#C98A00", "#D55E00", "#CC79A7", "#7F7F8C")
SYMBOLS = ("circle", "square", "diamond", "triangle-up", "cross", "star", "pentagon", "hexagon", "triangle-down")
DASHES = ("solid", "dash", "dot", "dashdot", "longdash")

MARKERS: dict[Status, dict[str, Any]] = {
    Status.COMPLETE: {"symbol": "circle", "size": 11},
    Status.PRUNED: {"symbol": "triangle-down", "size": 9},
    Status.DIVERGED: {"symbol": "x-thin", "size": 9, "color": "#D55E00", "line": {"width": 2, "color": "#D55E00"}},
    Status.OUT_OF_MEMORY: {"symbol": "square-x-open", "size": 10, "color": INK, "line": {"width": 1.5}},
    Status.FAILED: {"symbol": "hash-open", "size": 9, "color": INK, "line": {"width": 1.5}},
    Status.RUNNING: {"symbol": "circle-open-dot", "size": 9, "color": "#4BA3D9", "line": {"width": 1.5}},
}
STAR = {"symbol": "star", "size": 21, "color": ACCENT, "line": {"width": 1.5, "color": "white"}}
"""What is recommended, in every figure."""

_UNUSED_BUTTONS = ["select2d", "lasso2d", "zoomIn2d", "zoomOut2d", "autoScale2d"]


@dataclass(frozen=True, slots=True)
class Look:
    """How a series is told apart from the others: colour, marker and dash, as plotly names them."""

    colour: str
    symbol: str
    dash: str = "solid"


def look_of(place: int) -> Look:
    """Return the look of the series at a place: the first turn through the colours is solid, the next ones are not."""
    return Look(colour_of(place), symbol_of(place), DASHES[place // len(SERIES) % len(DASHES)])


def colour_of(place: int) -> str:
    """Return the series colour at a place."""
    return SERIES[place % len(SERIES)]


def symbol_of(place: int) -> str:
    """Return the marker symbol at a place."""
    return SYMBOLS[place % len(SYMBOLS)]


def faded(colour: str, opacity: float) -> str:
    """Return `#rrggbb` with an opacity.

    >>> faded("#0080ff", 0.5)
    'rgba(0,128,255,0.5)'
    """
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red},{green},{blue},{opacity:g})"


def escape(text: object) -> str:
    """Return user text safe for plotly, which reads a subset of HTML in titles, names and hover texts."""
    return html.escape(str(text), quote=False)


def new_figure(title: str, *, height: int = 460) -> go.Figure:
    """Return an empty figure of one plot in the house's look; `title` may hold user text, which is escaped here."""
    return stacked_figure(title, 1, height=height)


def stacked_figure(
    title: str,
    rows: int,
    *,
    height: int,
    spacing: float = 0.05,
    shared_x: bool = True,
    heights: Sequence[float] | None = None,
) -> go.Figure:
    """Return an empty figure of plots one above the other.

    Args:
        title: May hold user text, which is escaped here.
        rows: How many plots.
        height: Of all together, in pixels.
        spacing: Between two plots, as a share of the height.
        shared_x: Whether they share the x axis.
        heights: In proportion to which the plots are high; equally high where None.
    """
    figure = make_subplots(
        rows=rows, cols=1, shared_xaxes=shared_x, vertical_spacing=spacing if rows > 1 else None, row_heights=heights
    )
    return _styled(figure, title, height)


def panels(
    title: str,
    names: Sequence[str],
    *,
    height: int,
    spacing: float,
    shared_y: bool = False,
    heights: Sequence[float] = (1.0,),
    row_spacing: float | None = None,
) -> go.Figure:
    """Return an empty figure of plots side by side, each with its name above it, escaped here.

    Args:
        title: May hold user text, which is escaped here.
        names: Of the plots, from left to right.
        height: Of all together, in pixels.
        spacing: Between two plots side by side, as a share of the width.
        shared_y: Whether they share the y axis.
        heights: In proportion to which plots stand one above the other under each name; they share the x axis.
        row_spacing: Between two of those, as a share of the height.
    """
    figure = make_subplots(
        rows=len(heights),
        cols=len(names),
        column_titles=[escape(name) for name in names] if len(names) > 1 else None,
        shared_xaxes=len(heights) > 1,
        shared_yaxes=shared_y,
        horizontal_spacing=spacing,
        vertical_spacing=row_spacing,
        row_heights=heights,
    )
    return _styled(figure, title, height)


def _styled(figure: go.Figure, title: str, height: int) -> go.Figure:
    chosen = str(pio.templates.default)
    lines = textwrap.wrap(title, TITLE_WIDTH) or [""]
    figure.update_layout(
        template=chosen if chosen in TEMPLATES else "bsopt",
        title={"text": "<br>".join(map(escape, lines))},
        height=height,
        margin={"t": TITLE_ROOM + 20 * (len(lines) - 1)},
    )
    return figure


def _template(*, ink: str, page: str = "rgba(0,0,0,0)") -> go.layout.Template:
    """Return the house's look with a colour of text and lines, and one of the page."""
    axis = {
        "gridcolor": GRID,
        "linecolor": ink,
        "tickcolor": ink,
        "zeroline": False,
        "showline": True,
        "ticks": "outside",
        "automargin": True,
        "title": {"standoff": 8, "font": {"size": 12}},
        "tickfont": {"size": 12},
    }
    return go.layout.Template(
        layout={
            # At a fixed distance from the top, where neither the mode bar nor a menu reaches it.
            "title": {
                "x": 0.01,
                "xref": "container",
                "xanchor": "left",
                "yref": "container",
                "y": 1.0,
                "yanchor": "top",
                "pad": {"t": 24},
                "font": {"size": 16},
            },
            "font": {
                "family": "system-ui, -apple-system, 'Segoe UI', Roboto, Arial, sans-serif",
                "size": 13,
                "color": ink,
            },
            "paper_bgcolor": page,
            "plot_bgcolor": page,
            "colorway": list(SERIES),
            "margin": {"l": 64, "r": 16, "t": TITLE_ROOM, "b": 56},
            "legend": {
                "orientation": "h",
                "yref": "container",
                "y": 0.01,
                "yanchor": "bottom",
                "xref": "container",
                "x": 0.01,
                "bgcolor": "rgba(0,0,0,0)",
                "font": {"size": 12},
            },
            "modebar": {"bgcolor": "rgba(0,0,0,0)", "color": ink, "activecolor": ACCENT, "remove": _UNUSED_BUTTONS},
            "hoverlabel": {"align": "left", "font": {"size": 12}},
            "xaxis": axis,
            "yaxis": {**axis, **VALUE_TICKS},
        }
    )


TEMPLATES = {
    "bsopt": _template(ink=INK),
    "bsopt_light": _template(ink="#24262b", page="#ffffff"),
    "bsopt_dark": _template(ink="#d9dbe0", page="#15171b"),
}
"""Name -> the look: on any page, on a white one, on a near-black one."""
for _name, _look in TEMPLATES.items():  # plotly knows templates by their names only
    pio.templates[_name] = _look
