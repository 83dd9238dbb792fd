"""A real browser for the tests that need one: one headless Chromium, driven by selenium."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

import pytest

Open: TypeAlias = Callable[..., Any]


@pytest.fixture(scope="session")
def chrome() -> Iterator[Any]:
    """One headless Chromium for all tests; starting it takes longer than any of them."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    driver = shutil.which("chromedriver")
    if not (chromium and driver):
        pytest.skip("Chromium and chromedriver aren't installed (Debian: apt install chromium chromium-driver)")
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium isn't installed")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    started = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    yield started
    started.quit()


@pytest.fixture
def browser(chrome: Any) -> Open:
    """A function that gives the browser a width, light or dark, with or without JavaScript, and empty logs."""

    def prepare(width: int = 1200, *, dark: bool = False, javascript: bool = True) -> Any:
        chrome.get("about:blank")
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
        chrome.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        chrome.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})
        chrome.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": not javascript})
        for log in ("browser", "performance"):
            chrome.get_log(log)
        return chrome

    return prepare


def wait(chrome: Any, condition: Callable[[], object], seconds: float = 60) -> None:
    from selenium.webdriver.support.ui import WebDriverWait

    WebDriverWait(chrome, seconds).until(lambda _: condition())


def requests_of(chrome: Any) -> list[str]:
    """Addresses that the page asked the network for, but for those of the page's own file and data in itself."""
    events = [json.loads(entry["message"])["message"] for entry in chrome.get_log("performance")]
    asked = [e["params"]["request"]["url"] for e in events if e["method"] == "Network.requestWillBeSent"]
    return [url for url in asked if not url.startswith(("file:", "data:", "blob:", "chrome:", "about:"))]
