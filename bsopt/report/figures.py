"""The figures of the report, each with a line on how to read it."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Sequence

import plotly.graph_objects as go

from bsopt.report.markup import Html, embedded_json, join, tag
from bsopt.visualization._traces import SENTENCE, caption_height
from bsopt.visualization.figure import FIGURES, Figure
from bsopt.visualization.study_data import StudyData

__all__ = ["COMPARED", "HERO", "comparisons", "hero", "pictures"]

COMPARED = ("best_by_batch_size", "convergence_cost")
"""Figures that show several studies in one."""
HERO = "answer"
"""The figure that opens the report."""


def pictures(data: StudyData, figures: Iterable[Figure], *, prefix: str) -> list[Html]:
    """Return figures of a study in their order, then a list of those with nothing to show, and why."""
    shown, missing = [], []
    for figure in figures:
        drawn = figure(data)
        if drawn.data:
            shown.append(_picture(figure, drawn, prefix=prefix))
        else:
            missing.append(tag("li", tag("b", figure.heading), ": ", _sentence(drawn)))
    if missing:
        shown.append(tag("div", tag("h3", "Not drawn"), tag("ul", *missing), class_="nothing"))
    return shown


def hero(data: StudyData, *, prefix: str) -> Html | None:
    """Return the answer as a picture, which opens the report; None where there is nothing to show."""
    figure = FIGURES[HERO]
    drawn = figure(data)
    heading = "What each batch size gives at its best learning rate"
    if not drawn.data:
        return None
    how = tag("details", tag("summary", "How to read it"), tag("p", _how(figure)), class_="how")
    return join(_picture(figure, drawn, prefix=prefix, heading=heading, how=""), how)


def comparisons(sources: Sequence[StudyData]) -> list[Html]:
    """Return what sets several studies side by side: a panel of each, one below the other on a phone, and overlays."""
    figure = FIGURES["interaction"]
    drawn = [(index, data.name, figure(data)) for index, data in enumerate(sources)]
    panels = [
        _picture(figure, panel, prefix="all", suffix=f"-{index}", heading=name, how="")
        for index, name, panel in drawn
        if panel.data
    ]
    overlays = [(FIGURES[name], FIGURES[name](sources)) for name in COMPARED]
    return [
        tag("div", *panels, class_="panels"),
        *(_picture(figure, overlay, prefix="all") for figure, overlay in overlays if overlay.data),
    ]


def _picture(
    figure: Figure,
    drawn: go.Figure,
    *,
    prefix: str,
    suffix: str = "",
    heading: str | None = None,
    how: str | None = None,
) -> Html:
    """Return one figure, as it was drawn, with its heading and how to read it.

    Args:
        figure: Which one.
        drawn: What it drew.
        prefix: Of the element's id, before the figure's name.
        suffix: Of the element's id, after it.
        heading: Above it; by default its title, which is its heading, or says more: the target that is meant.
        how: Below it; by default how to read it, and its number in the article.
    """
    element_id = f"{prefix}-{figure.name.replace('_', '-')}{suffix}"
    heading = html.unescape(str(drawn.layout.title.text).replace("<br>", " ")) if heading is None else heading
    how = _how(figure) if how is None else how
    bare = go.Figure(drawn)
    # The page has the heading: a title would say it twice, and too wide for a phone. Its menus are the page's, too.
    bare.update_layout(title=None, margin={"t": 24}, height=int(drawn.layout.height) - 30)
    said = _said(bare)
    height = bare.layout.height
    return tag(
        "figure",
        tag("h3", heading, id=f"{element_id}-title"),
        tag(
            "div",
            id=element_id,
            class_="plot",
            role="img",
            aria_labelledby=f"{element_id}-title",
            aria_describedby=f"{element_id}-how" if how or said else None,
            style=f"min-height:{height}px",
        ),
        embedded_json(bare.to_json(), data_plot=element_id),
        tag("figcaption", *(tag("p", text) for text in (*said, how) if text), id=f"{element_id}-how")
        if how or said
        else None,
        aria_labelledby=f"{element_id}-title",
    )


def _said(figure: go.Figure) -> list[Html]:
    """Take the sentences out of a figure: the page has room for them below, where they lie over no point."""
    said = [_plain(note.text) for note in figure.layout.annotations if note.name == SENTENCE]
    figure.layout.annotations = [note for note in figure.layout.annotations if note.name != SENTENCE]
    title = figure.layout.legend.title
    if title.text and title.side == "top":
        said.append(_plain(title.text))
        height = figure.layout.height - caption_height(title.text)
        figure.update_layout(legend={"title": {"text": "", "side": None}}, height=height)
    return said


def _sentence(figure: go.Figure) -> Html:
    """Return what an empty figure says; figures escape their texts themselves."""
    return Html(" ".join(_plain(note.text) for note in figure.layout.annotations))


def _how(figure: Figure) -> str:
    if figure.article is None:
        return figure.how_to_read
    return f"{figure.how_to_read} As figure {figure.article} of the article."


def _plain(text: str) -> Html:
    """Return a figure's text, which figures escape themselves, with settings as code."""
    return Html(re.sub(r"`([^`]*)`", r"<code>\1</code>", str(text).replace("<br>", " ")))
