"""The report in a real browser: drawn, sortable, quiet, safe."""

from __future__ import annotations

import base64
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
import pytest
from browsing import Open, requests_of, wait

from bsopt.report import write_report
from bsopt.testing.study import example_data
from bsopt.trial.objective import Objective
from bsopt.visualization import FIGURES, plot_interaction, save_figure
from bsopt.visualization.study_data import StudyData

pytestmark = pytest.mark.browser


def _open_report(chrome: Any, path: Path) -> Any:
    chrome.get(path.as_uri())
    wait(chrome, lambda: chrome.execute_script("return document.documentElement.dataset.figures") == "drawn")
    return chrome


def _colours(png: bytes) -> set[bytes]:
    """The colours of an 8-bit PNG's pixels, without its filters: different bytes are different pixels enough."""
    place, stream = 8, b""
    while place < len(png):
        length = int.from_bytes(png[place : place + 4], "big")
        if png[place + 4 : place + 8] == b"IDAT":
            stream += png[place + 8 : place + 8 + length]
        place += 12 + length
    raw = zlib.decompress(stream)
    return {raw[i : i + 3] for i in range(0, len(raw) - 3, 3)}


@pytest.mark.parametrize(
    ("width", "dark"),
    [(1200, False), pytest.param(1200, True, marks=pytest.mark.slow), pytest.param(380, False, marks=pytest.mark.slow)],
)
def test_every_figure_is_drawn_with_no_error_and_no_request(
    browser: Open, page_path: Path, width: int, dark: bool
) -> None:
    chrome = _open_report(browser(width, dark=dark), page_path)
    plots = chrome.find_elements("css selector", "figure .plot")
    assert len(plots) == len(FIGURES) - 1  # the study ran on one device
    for plot in plots:
        marks = plot.find_elements("css selector", ".scatterlayer .trace path, .barlayer path, .heatmaplayer image")
        assert any(mark.size["width"] > 0 for mark in marks), plot.get_attribute("id")
    assert [entry for entry in chrome.get_log("browser") if entry["level"] in ("SEVERE", "WARNING")] == []
    assert requests_of(chrome) == []
    assert chrome.execute_script("return document.documentElement.scrollWidth") <= width


@pytest.mark.slow
def test_several_studies_fit_on_a_phone_and_stand_side_by_side_on_a_desk(browser: Open, tmp_path: Path) -> None:
    path = write_report([example_data(12, name=f"study {i}", seed=i) for i in range(2)], tmp_path / "report.html").path
    for width, is_side_by_side in ((380, False), (1300, True)):
        chrome = _open_report(browser(width), path)
        assert chrome.execute_script("return document.documentElement.scrollWidth") <= width
        first, second = (p.location for p in chrome.find_elements("css selector", ".panels .plot"))
        assert (first["y"] == second["y"]) == is_side_by_side


@pytest.mark.slow
def test_the_goals_are_readable_without_scrolling_sideways(browser: Open, page_path: Path) -> None:
    for width in (1200, 900, 800, 700, 380):
        chrome = _open_report(browser(width), page_path)
        table = "document.querySelector('.wide')"
        frames = "[...document.querySelectorAll('.answer-card .scroll')]"
        inside = f"return {frames}.map(frame => frame.scrollWidth <= frame.clientWidth)"
        assert set(chrome.execute_script(inside)) == {True}, width
        assert "learning rate" in chrome.execute_script(
            f"return {table}.innerText + [...{table}.querySelectorAll('td')]"
            ".map(cell => getComputedStyle(cell, '::before').content).join()"
        )


@pytest.mark.slow
def test_a_drawn_figure_has_coloured_pixels(browser: Open, page_path: Path) -> None:
    chrome = _open_report(browser(), page_path)
    plot = chrome.find_element("css selector", "#s0-interaction")
    assert len(_colours(base64.b64decode(plot.screenshot_as_base64))) > 200


@pytest.mark.slow
def test_text_is_light_on_dark_and_dark_on_light(browser: Open, page_path: Path) -> None:
    for dark in (False, True):
        chrome = _open_report(browser(dark=dark), page_path)
        script = "return getComputedStyle(document.querySelector(arguments[0])).getPropertyValue(arguments[1])"
        for selector, key in (("h1", "color"), ("#s0-interaction .xtick text", "fill")):
            channels = chrome.execute_script(script, selector, key).strip("rgb()").split(",")
            assert (sum(map(int, channels[:3])) > 384) == dark, selector


@pytest.mark.slow
def test_the_table_sorts_by_a_click_and_back(browser: Open, page_path: Path) -> None:
    chrome = _open_report(browser(), page_path)
    table = chrome.find_element("css selector", "#s0-trials")
    heads = table.find_elements("css selector", "thead button")
    column = next(i for i, head in enumerate(heads) if head.text.startswith("learning rate"))

    def keys() -> list[float]:
        cells = table.find_elements("css selector", f"tbody td:nth-child({column + 1})")
        return [float(cell.get_attribute("data-v")) for cell in cells]

    before = keys()
    chrome.execute_script("arguments[0].click()", heads[column])
    assert keys() == sorted(before) != before
    chrome.execute_script("arguments[0].click()", heads[column])
    assert keys() == sorted(before, reverse=True)
    assert heads[column].find_element("xpath", "..").get_attribute("aria-sort") == "descending"


@pytest.mark.slow
def test_empty_cells_sort_last_both_ways(browser: Open, page_path: Path) -> None:
    chrome = _open_report(browser(), page_path)
    head = chrome.find_element("xpath", "//table[@id='s0-trials']//button[starts-with(., 'throughput')]")
    column = len(head.find_elements("xpath", "../preceding-sibling::th")) + 1
    for _ in range(2):
        chrome.execute_script("arguments[0].click()", head)
        cells = chrome.find_elements("css selector", f"#s0-trials tbody td:nth-child({column})")
        texts = [cell.get_attribute("textContent") for cell in cells]
        assert "–" in texts
        assert set(texts[texts.index("–") :]) == {"–"}


def test_without_javascript_the_answer_and_the_tables_are_there(browser: Open, page_path: Path) -> None:
    chrome = browser(javascript=False)
    chrome.get(page_path.as_uri())
    assert "Batch size" in chrome.find_element("css selector", ".answer").text
    assert len(chrome.find_elements("css selector", "#s0-trials tbody tr")) == 40
    assert "need JavaScript" in chrome.find_element("css selector", "noscript").text


@pytest.mark.slow
def test_a_script_in_a_study_name_stays_text(browser: Open, tmp_path: Path) -> None:
    nasty = "</script><script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">"
    data = example_data(12)
    info = replace(data.info, name=nasty, objective=Objective(nasty))
    found = StudyData(info, data.records)
    path = write_report([found, found], tmp_path / "report.html").path
    chrome = _open_report(browser(), path)
    assert chrome.title.startswith("bsopt report")
    assert nasty in chrome.find_element("css selector", "main").text
    assert chrome.find_elements("css selector", "img, main script:not([type])") == []
    labels = [element.text for element in chrome.find_elements("css selector", ".ytitle")]
    assert any("onerror" in label for label in labels)


@pytest.mark.slow
def test_the_printed_report_holds_every_figure(browser: Open, page_path: Path) -> None:
    chrome = _open_report(browser(), page_path)
    pdf = base64.b64decode(chrome.execute_cdp_cmd("Page.printToPDF", {})["data"])
    assert pdf.startswith(b"%PDF")
    assert 3 <= pdf.count(b"/Type /Page\n") + pdf.count(b"/Type /Page ") <= 40
    width = 717  # pixels of A4 between its margins
    size = {"width": width, "height": 1040, "deviceScaleFactor": 1, "mobile": True}
    chrome.execute_script("dispatchEvent(new Event('beforeprint'))")
    chrome.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    chrome.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    try:
        assert chrome.execute_script("return document.documentElement.scrollWidth") <= width
    finally:
        chrome.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})


@pytest.mark.slow
def test_a_saved_figure_page_is_drawn_without_a_request(browser: Open, study: optuna.Study, tmp_path: Path) -> None:
    path = save_figure(plot_interaction(study), tmp_path / "figure.html")
    chrome = browser(dark=True)
    chrome.get(path.as_uri())
    wait(chrome, lambda: chrome.find_elements("css selector", ".scatterlayer .trace path"))
    assert requests_of(chrome) == []
    assert not chrome.find_elements("css selector", "[data-title^='Share']")


@pytest.mark.slow
def test_the_runs_of_a_large_study_follow_the_first_figure(browser: Open, tmp_path: Path) -> None:
    data = example_data(300)
    chrome = _open_report(browser(), write_report(data, tmp_path / "report.html").path)
    drawn = "const plot = document.getElementById('s0-answer'); return plot.data.find(t => t.name === 'one run each').x"
    assert len(chrome.execute_script(drawn)) == len(data.completed) > 200
