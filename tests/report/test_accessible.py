"""The report's table and controls in a real browser: kept in their frame, filtered, saved, named, legible."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from browsing import Open, wait

from bsopt.cli.terminal.trial_tables import Columns, read_past_trials
from bsopt.report import write_report
from bsopt.testing.study import example_data

pytestmark = [pytest.mark.browser, pytest.mark.slow]

CONTRASTS = """
const channels = (text) => (text.match(/[\\d.]+/g) ?? []).map(Number);
const luminance = (rgb) => rgb.slice(0, 3).map((c) => c / 255)
  .map((c) => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
  .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
const behind = (element) => {
  for (let at = element; at; at = at.parentElement) {
    const rgb = channels(getComputedStyle(at).backgroundColor);
    if (rgb.length === 3 || rgb[3] > 0) return rgb;
  }
  return [255, 255, 255];
};
const poor = [];
const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
while (walker.nextNode()) {
  const element = walker.currentNode.parentElement;
  if (!walker.currentNode.textContent.trim() || !element.getClientRects().length) continue;
  const style = getComputedStyle(element);
  const ink = element.closest("svg") ? style.fill : style.color;
  const [a, b] = [luminance(channels(ink)), luminance(behind(element))].sort((x, y) => y - x);
  const contrast = (a + 0.05) / (b + 0.05);
  if (contrast < 4.5) poor.push(`${element.tagName}: ${walker.currentNode.textContent.trim()} has ${contrast}`);
}
return poor;
"""
UNNAMED = """
return [...document.querySelectorAll("button, select, input, [role], section[aria-labelledby]")]
  .filter((e) => !(e.getAttribute("aria-label") || e.labels?.length || e.textContent.trim() ||
    document.getElementById(e.getAttribute("aria-labelledby"))?.textContent))
  .map((e) => e.outerHTML.slice(0, 100));
"""


def _open(browser: Open, path: Path, *args: Any, **options: Any) -> Any:
    chrome = browser(*args, **options)
    chrome.get(path.as_uri())
    wait(chrome, lambda: chrome.execute_script("return document.documentElement.dataset.figures") == "drawn", 120)
    return chrome


@pytest.mark.parametrize("width", [390, 800, 1400])
def test_why_a_trial_ended_lies_inside_the_frame(browser: Open, page_path: Path, width: int) -> None:
    chrome = _open(browser, page_path, width)
    frame = "document.querySelector('#s0-trials').parentElement"
    assert chrome.execute_script(f"return {frame}.scrollWidth <= {frame}.clientWidth")
    right = chrome.execute_script(f"return {frame}.getBoundingClientRect().right")
    cells = chrome.execute_script(
        "const cells = document.querySelectorAll('#s0-trials td[data-label=why]');"
        "return [...cells].map(cell => cell.getBoundingClientRect().right)"
    )
    assert cells
    assert max(cells) <= right + 1
    assert chrome.execute_script("return document.documentElement.scrollWidth") <= width


def test_the_table_is_searched_filtered_and_saved(browser: Open, page_path: Path, tmp_path: Path) -> None:
    chrome = _open(browser, page_path)
    shown = (
        "return [...document.querySelectorAll('#s0-trials tbody tr')].filter(r => !r.hidden).map(r => r.dataset.ending)"
    )
    everything = chrome.execute_script(shown)
    ending = chrome.find_element("css selector", ".filters [data-by=ending]")
    ending.send_keys("diverged")
    diverged = chrome.execute_script(shown)
    assert 0 < len(diverged) < len(everything)
    assert set(diverged) == {"diverged"}
    assert chrome.find_element("css selector", ".filters output").text == f"{len(diverged)} of 40 trials"
    chrome.execute_script("arguments[0].value = ''; arguments[0].dispatchEvent(new Event('input'))", ending)
    search = chrome.find_element("css selector", ".filters [type=search]")
    search.send_keys("no such words")
    assert chrome.execute_script(shown) == []
    chrome.execute_script("arguments[0].value = ''; arguments[0].dispatchEvent(new Event('input'))", search)
    chrome.execute_cdp_cmd("Browser.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(tmp_path)})
    chrome.execute_script("document.querySelector('.filters [data-csv]').click()")
    wait(chrome, lambda: list(tmp_path.glob("*.csv")))
    (saved,) = tmp_path.glob("*.csv")
    assert saved.name == "digits-trials.csv"
    found = read_past_trials(saved.read_text(encoding="utf-8"), Columns())
    assert len(found.trials) + len(found.skipped) == len(everything)
    assert len(found.trials) == sum(e in ("completed", "converged") for e in everything)


@pytest.mark.parametrize("dark", [False, True])
def test_all_text_has_a_contrast_of_four_and_a_half(browser: Open, page_path: Path, dark: bool) -> None:
    assert _open(browser, page_path, dark=dark).execute_script(CONTRASTS) == []


def test_every_control_and_figure_has_a_name(browser: Open, page_path: Path) -> None:
    assert _open(browser, page_path).execute_script(UNNAMED) == []


def test_the_keyboard_changes_what_a_figure_shows(browser: Open, page_path: Path) -> None:
    chrome = _open(browser, page_path)
    figure = chrome.find_element("xpath", "//figure[.//div[@id='s0-learning-curves']]")
    choice = figure.find_element("tag name", "select")
    assert figure.find_element("css selector", ".xtitle").text == "samples seen"
    choice.send_keys("by training time")
    wait(chrome, lambda: figure.find_element("css selector", ".xtitle").text == "training time [s]")


def test_the_answer_is_the_first_figure_that_is_drawn(browser: Open, page_path: Path) -> None:
    chrome = _open(browser, page_path)
    first = chrome.execute_script("return document.querySelector('script[data-plot]').dataset.plot")
    assert first == "s0-answer"
    assert int(chrome.execute_script("return document.documentElement.dataset.firstFigure")) > 0


@pytest.mark.slow
@pytest.mark.skipif(os.getloadavg()[0] > (os.cpu_count() or 1), reason="the machine is busy: it has no time to measure")
def test_the_first_figure_of_a_thousand_trials_is_seen_within_a_second(browser: Open, tmp_path: Path) -> None:
    path = write_report([example_data(1000)], tmp_path / "report.html").path
    times = [
        int(_open(browser, path).execute_script("return document.documentElement.dataset.firstFigure"))
        for _ in range(3)
    ]
    assert min(times) < 1000
