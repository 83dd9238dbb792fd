"""Every figure of every kind of study in a real browser: no text lies on another or leaves its frame, in any width."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from importlib.resources import files
from pathlib import Path
from typing import Any

import plotly.graph_objects as go
import pytest
from browsing import Open, wait
from plotly.offline import get_plotlyjs
from study_kinds import KINDS, figures_of, kind

from bsopt.report.figures import pictures
from bsopt.visualization import EXPERIMENT_FIGURES, FIGURES
from bsopt.visualization.saving import script

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.timeout(900)]

WIDTHS = (390, 800, 1400)

MEASURE = """
const slack = 2;  // pixels: a font's box is larger than its letters
const found = [];
const cornersOf = (text) => {
  const box = text.getBBox(), m = text.getScreenCTM();
  return [[0, 0], [1, 0], [1, 1], [0, 1]].map(([i, j]) => {
    const x = box.x + i * box.width, y = box.y + j * box.height;
    return [m.a * x + m.c * y + m.e, m.b * x + m.d * y + m.f];
  });
};
// How far two rectangles, turned as they may be, lie in each other: the least over the directions of their sides.
const depth = (one, other) => {
  let least = Infinity;
  for (const shape of [one, other]) for (const k of [0, 1]) {
    const dx = shape[k + 1][0] - shape[k][0], dy = shape[k + 1][1] - shape[k][1], length = Math.hypot(dx, dy) || 1;
    const on = (corners) => corners.map(([x, y]) => (x * dx + y * dy) / length);
    const [p, q] = [on(one), on(other)];
    least = Math.min(least, Math.min(Math.max(...p), Math.max(...q)) - Math.max(Math.min(...p), Math.min(...q)));
  }
  return least;
};
for (const plot of document.querySelectorAll(".js-plotly-plot")) {
  const frame = plot.querySelector(".main-svg").getBoundingClientRect();
  const texts = [...plot.querySelectorAll("svg text")].filter((text) =>
    text.textContent.trim() && !text.closest(".hoverlayer, .modebar, defs")
    && text.checkVisibility({ opacityProperty: true, visibilityProperty: true }) && text.getBBox().width > 0
  ).map((text) => ({ words: text.textContent, box: text.getBoundingClientRect(), corners: cornersOf(text) }));
  if (texts.length < 3) found.push(`${plot.id}: only ${texts.length} texts`);
  for (const { words, box } of texts) {
    const [left, top] = [frame.left - box.left, frame.top - box.top];
    const out = Math.max(left, top, box.right - frame.right, box.bottom - frame.bottom);
    if (out > slack) found.push(`${plot.id}: "${words}" leaves the frame by ${out.toFixed(0)} px`);
  }
  texts.forEach((one, i) => texts.slice(i + 1).forEach((other) => {
    const shared = depth(one.corners, other.corners);
    if (shared > slack) found.push(`${plot.id}: "${one.words}" lies on "${other.words}" by ${shared.toFixed(0)} px`);
  }));
}
return found;
"""
ALL_DRAWN = """
const all = document.querySelectorAll(".plot").length;
return all > 0 && document.querySelectorAll(".js-plotly-plot .main-svg .infolayer").length >= all
  && [undefined, "drawn"].includes(document.documentElement.dataset.figures);
"""


@pytest.fixture(scope="module")
def drawn() -> dict[str, dict[str, go.Figure]]:
    """Kind of study -> name -> figure."""
    return {f"k{place}": figures_of(kind(name)) for place, name in enumerate(KINDS)}


@pytest.fixture(scope="module")
def of_reports(drawn: dict[str, dict[str, go.Figure]], tmp_path_factory: pytest.TempPathFactory) -> str:
    """Address of a page with all figures as reports have them."""
    every = {**FIGURES, **EXPERIMENT_FIGURES}
    shown = []
    for (prefix, figures), name in zip(drawn.items(), KINDS, strict=True):
        ready = [replace(every[name], draw=partial(_as_drawn, figure)) for name, figure in figures.items()]
        shown += pictures(kind(name), ready, prefix=prefix)
    assets = files("bsopt.report") / "assets"
    style, report = ((assets / name).read_text(encoding="utf-8") for name in ("report.css", "report.js"))
    code = (get_plotlyjs(), script("narrow"), report)
    body = f"<main>{''.join(shown)}</main>" + "".join(f"<script>{text}</script>" for text in code)
    return _written(tmp_path_factory.mktemp("pages") / "report.html", body, style)


@pytest.fixture(scope="module")
def by_themselves(drawn: dict[str, dict[str, go.Figure]], tmp_path_factory: pytest.TempPathFactory) -> str:
    """Address of a page with all figures as files of their own have them."""
    parts = []
    for prefix, figures in drawn.items():
        for name, figure in figures.items():
            parts.append(f'<div class="plot" id="{prefix}-{name}"></div>')
            parts.append(f'<script type="application/json" data-figure="{prefix}-{name}">{figure.to_json()}</script>')
    parts += [f"<script>{text}</script>" for text in (get_plotlyjs(), script("narrow"), script("figure"))]
    return _written(tmp_path_factory.mktemp("pages") / "figures.html", "".join(parts), "")


@pytest.mark.parametrize("width", WIDTHS)
def test_no_text_in_a_report_overlaps_or_leaves_its_figure(browser: Open, of_reports: str, width: int) -> None:
    assert "\n".join(_measured(browser(width), of_reports)) == ""


@pytest.mark.parametrize("width", WIDTHS)
def test_no_text_of_a_figure_by_itself_overlaps_or_leaves_it(browser: Open, by_themselves: str, width: int) -> None:
    assert "\n".join(_measured(browser(width), by_themselves)) == ""


def _as_drawn(figure: go.Figure, _study: object) -> go.Figure:
    return figure


def _written(path: Path, body: str, style: str) -> str:
    viewport = '<meta name="viewport" content="width=device-width, initial-scale=1">'
    head = f'<meta charset="utf-8">{viewport}<style>{style}</style>'
    path.write_text(f'<!doctype html><html lang="en"><head>{head}</head><body>{body}</body></html>', encoding="utf-8")
    return path.as_uri()


def _measured(chrome: Any, address: str) -> list[str]:
    chrome.get(address)
    wait(chrome, lambda: chrome.execute_script(ALL_DRAWN), seconds=240)
    found: list[str] = chrome.execute_script(MEASURE)
    return found
