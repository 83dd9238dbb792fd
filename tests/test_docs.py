"""The API's pages are built from the docstrings, and a browser opens them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
from browsing import Open, wait

ROOT = Path(__file__).parents[1]
pytestmark = [pytest.mark.slow, pytest.mark.browser, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def docs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("pdoc", reason="pdoc isn't installed")
    folder = tmp_path_factory.mktemp("docs")
    path = os.pathsep.join(path for path in sys.path if path)
    told = subprocess.run(
        [sys.executable, ROOT / "scripts/docs", folder],
        env={**os.environ, "PYTHONPATH": path, "BSOPT_VENV": sys.prefix, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=800,
    )
    assert told.returncode == 0, told.stderr
    assert "Warn" not in told.stderr
    return folder


class Links(HTMLParser):
    def __init__(self, page: Path) -> None:
        super().__init__()
        self.found: list[str] = []
        self.feed(page.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [value for name, value in attrs if tag == "a" and name == "href" and value]


def test_every_link_within_the_pages_leads_somewhere(docs: Path) -> None:
    for page in docs.rglob("*.html"):
        for link in Links(page).found:
            target = re.split("[#?]", link)[0]
            if target and "://" not in target:
                assert (page.parent / target).exists(), f"{page.name}: {link}"


def test_what_is_public_is_documented(docs: Path) -> None:
    import bsopt
    import bsopt.visualization

    for module in (bsopt, bsopt.visualization):
        page = (docs / f"{module.__name__.replace('.', '/')}.html").read_text(encoding="utf-8")
        missing = [name for name in module.__all__ if not name.startswith("__") and name not in page]
        assert not missing
    assert "prior_from" in (docs / "bsopt.html").read_text(encoding="utf-8")


def test_a_browser_opens_the_pages_and_the_gallery(docs: Path, browser: Open) -> None:
    page = browser()
    page.get((docs / "index.html").as_uri())
    page.find_element("link text", "bsopt.visualization").click()
    wait(page, lambda: page.find_elements("id", "plot_interaction"))
    page.get((docs / "gallery.html").as_uri())
    wait(page, lambda: len(page.find_elements("css selector", ".js-plotly-plot .main-svg")) >= 10)
    errors = [entry for entry in page.get_log("browser") if entry["level"] == "SEVERE"]
    assert not errors
