"""bsopt's figures and notes inside the real optuna-dashboard, in a real browser."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import optuna
import pytest
from browsing import Open, requests_of, wait

from bsopt.report.dashboard import publish, serve
from bsopt.testing.study import example_study
from bsopt.trial.record import StopReason
from bsopt.visualization import FIGURES
from bsopt.visualization.study_data import load

pytestmark = [pytest.mark.browser, pytest.mark.slow]
pytest.importorskip("optuna_dashboard", reason="optuna-dashboard isn't installed")

NASTY = "</script><script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">"
CARD_HEIGHT = 450
"""Pixels that optuna-dashboard gives to a figure; what is taller would lie over its neighbours."""


@dataclass(frozen=True)
class Served:
    address: str
    studies: tuple[optuna.Study, ...]

    def page(self, place: int, part: str = "") -> str:
        return f"{self.address}studies/{place + 1}{part}"


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Served:
    """A dashboard over an ordinary study and one whose name is a script."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    folder = tmp_path_factory.mktemp("dashboard")
    url, artifacts = f"sqlite:///{folder / 'study.db'}", folder / "artifacts"
    storage = optuna.storages.RDBStorage(url)
    studies = (example_study(24, name="digits", storage=storage), example_study(12, name=NASTY, storage=storage))
    for study in studies:
        publish(study, artifacts)
    addresses: list[str] = []
    ready = threading.Event()

    def on_ready(address: str) -> None:
        addresses.append(address)
        ready.set()

    arguments: dict[str, Any] = {"port": 0, "artifact_dir": artifacts, "on_ready": on_ready}
    threading.Thread(target=serve, args=(url,), kwargs=arguments, daemon=True).start()
    assert ready.wait(60)
    return Served(addresses[0], studies)


def _open(chrome: Any, url: str, *, until: str) -> None:
    """Open a page of the dashboard and wait for a text, which it fetches after it has loaded."""
    chrome.get(url)
    wait(chrome, lambda: until in chrome.find_element("css selector", "body").text)


def _complaints(chrome: Any) -> list[Any]:
    return [entry for entry in chrome.get_log("browser") if entry["level"] in ("SEVERE", "WARNING")]


def _requests_elsewhere(chrome: Any, served: Served) -> list[str]:
    return [url for url in requests_of(chrome) if not url.startswith(served.address.removesuffix("dashboard/"))]


def test_every_figure_is_drawn_in_its_card(browser: Open, served: Served) -> None:
    expected = {f"bsopt-{name.replace('_', '-')}" for name, plot in FIGURES.items() if plot(served.studies[0]).data}
    assert len(expected) > 10
    chrome = browser(1400)
    _open(chrome, served.page(0), until="Batch size × learning rate")
    cards = "[id^='user-defined-plot:bsopt-']"
    wait(chrome, lambda: len(chrome.find_elements("css selector", f"{cards} .main-svg .xtick")) > 0)
    wait(chrome, lambda: len(chrome.find_elements("css selector", f"{cards}.js-plotly-plot")) == len(expected))
    found = {card.get_attribute("id").removeprefix("user-defined-plot:"): card for card in _cards(chrome)}
    assert set(found) == expected
    for name, card in found.items():
        marks = card.find_elements("css selector", ".scatterlayer .trace path, .barlayer path, .heatmaplayer image")
        assert any(mark.size["width"] > 0 and mark.size["height"] > 0 for mark in marks), name
        sizes = [svg.size for svg in card.find_elements("css selector", "svg.main-svg")]
        assert all(size["width"] > 300 and 300 < size["height"] <= CARD_HEIGHT for size in sizes), name
    assert _complaints(chrome) == []
    assert _requests_elsewhere(chrome, served) == []


def test_texts_on_the_axes_of_a_card_do_not_lie_over_each_other(browser: Open, served: Served) -> None:
    chrome = browser(1400)
    _open(chrome, served.page(0), until="Batch size × learning rate")
    wait(chrome, lambda: chrome.find_elements("css selector", "[id='user-defined-plot:bsopt-interaction'] .ytitle"))
    for card in _cards(chrome):
        titles = card.find_elements("css selector", ".g-ytitle text, .g-y2title text")
        boxes = sorted((title.rect["y"], title.rect["y"] + title.rect["height"]) for title in titles)
        for (_, end), (start, _) in pairwise(boxes):
            assert end <= start, card.get_attribute("id")


def test_the_study_note_is_rendered(browser: Open, served: Served) -> None:
    chrome = browser(1400)
    _open(chrome, served.page(0, "/note"), until="Answer so far")
    assert chrome.find_element("xpath", "//h2[.='Answer so far']").is_displayed()
    heads = [head.text for head in chrome.find_elements("css selector", "table th")]
    assert {"batch size", "chance as good", "best trial"} <= set(heads)
    assert "accumulate_grad_batches: 1" in chrome.find_element("css selector", "pre").text
    assert _complaints(chrome) == []


def test_a_trial_note_is_rendered_with_reason_and_plan(browser: Open, served: Served) -> None:
    record = next(r for r in load(served.studies[0]).records if r.stop_reason is StopReason.OUT_OF_MEMORY)
    chrome = browser(1400)
    _open(chrome, served.page(0, f"/trials?numbers={record.number}"), until="512 × 2 accumulated = 1024")
    assert "out of memory" in [strong.text for strong in chrome.find_elements("css selector", "strong")]
    assert _complaints(chrome) == []


def test_parameters_and_intermediate_values_are_readable_as_they_are(browser: Open, served: Served) -> None:
    trial = served.studies[0].best_trial
    chrome = browser(1400)
    _open(chrome, served.page(0, f"/trials?numbers={trial.number}"), until="Intermediate Values")
    text = chrome.find_element("css selector", "body").text
    assert f"batch_size {trial.params['batch_size']}" in text
    assert f"lr {trial.params['lr']}" in text
    assert f"163840 {trial.intermediate_values[163840]}" in text


def test_a_script_in_a_study_name_stays_text(browser: Open, served: Served) -> None:
    chrome = browser(1400)
    for part, until in (("", "Batch size × learning rate"), ("/note", "Answer so far"), ("/trials", "Trial 0")):
        _open(chrome, served.page(1, part), until=until)
        assert NASTY in chrome.find_element("css selector", "body").text
        assert chrome.title == "Optuna Dashboard"
        assert chrome.find_elements("css selector", "img[src='x']") == []
    assert _complaints(chrome) == []


def _cards(chrome: Any) -> list[Any]:
    return list(chrome.find_elements("css selector", "[id^='user-defined-plot:bsopt-']"))
