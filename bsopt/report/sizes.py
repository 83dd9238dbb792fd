"""A light for each batch size: tested and as good, tested and worse, supported, not tested."""

from __future__ import annotations

from collections.abc import Mapping

from bsopt.recommendation.result import Recommendation, SizeFinding, SizeState
from bsopt.recommendation.views import SIZE_COLUMNS, as_good_in_words, best_size, size_rows
from bsopt.report.boxes import framed
from bsopt.report.markup import Html, join, tag

__all__ = ["size_lights"]

_SIGNS: Mapping[SizeState, str] = {
    SizeState.TESTED: "✓",
    SizeState.SUPPORTED: "≈",
    SizeState.WORSE: "✗",
    SizeState.OPEN: "?",
    SizeState.NOT_TESTED: "–",
}
"""Beside the colours, for those who don't tell them apart."""
_IN_WORDS = 1
"""The column of `SIZE_COLUMNS` that is words; all others are numbers."""


def size_lights(found: Recommendation) -> Html | None:
    """Return what is known of each batch size beside the recommended one, a line each.

    None where nothing stands beside it, or nothing is known of any.
    """
    rows = size_rows(found)
    if len(rows) < 2 or found.margin is None:
        return None
    best = best_size(found)
    head = tag("tr", *(tag("th", name, scope="col", class_=_class(i)) for i, name in enumerate(SIZE_COLUMNS)))
    body = (
        _row(finding, cells, is_best=finding.batch_size == best)
        for finding, cells in zip(found.sizes, rows, strict=True)
    )
    table = tag("table", tag("thead", head), tag("tbody", *body), class_="sizes")
    return join(
        tag("h3", "Every batch size"),
        tag("p", f"As good means: {as_good_in_words(found.margin)}, at its own learning rate.",
            class_="hint"),
        framed(table, label="Every batch size"),
    )  # fmt: skip


def _row(finding: SizeFinding, cells: tuple[str, ...], *, is_best: bool) -> Html:
    state = "best" if is_best else finding.state.value.replace(" ", "-")
    light = tag("span", "★" if is_best else _SIGNS[finding.state], class_="light", aria_hidden="true")
    return tag(
        "tr",
        tag("th", light, tag("span", cells[0]), scope="row", class_="number"),
        # On a phone the name of a number stands beside it, and what isn't known takes no room.
        *(
            tag("td", cell, class_=_class(i), data_label=None if cell == "–" else SIZE_COLUMNS[i])
            for i, cell in enumerate(cells)
            if i > 0
        ),
        class_=f"size {state}",
    )


def _class(column: int) -> str | None:
    return "standing" if column == _IN_WORDS else "number"
