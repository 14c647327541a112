"""A real browser for tests: headless Chromium, driven through chromedriver, that keeps a record."""

import json
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.service import Service

SWITCHES = (
    "headless",
    "no-sandbox",
    "disable-gpu",
    "disable-quic",
    "no-first-run",
    "disable-background-networking",
    "disable-component-update",
    "disable-sync",
    "hide-scrollbars",
)
PATIENCE_S = 20.0


@contextmanager
def open_browser(folder: Path) -> Iterator[webdriver.Chrome]:
    """A browser that saves downloads to a folder's `saved`; without chromedriver the test skips."""
    driver = shutil.which("chromedriver")
    if driver is None:
        pytest.skip("chromedriver is not installed (apt-get install chromium-driver)")
    saved = folder / "saved"
    saved.mkdir(exist_ok=True)
    options = webdriver.ChromeOptions()
    for switch in (*SWITCHES, f"user-data-dir={folder / 'profile'}"):
        options.add_argument(f"--{switch}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    browser = webdriver.Chrome(options=options, service=Service(driver))
    behaviour = {"behavior": "allow", "downloadPath": str(saved)}
    browser.execute_cdp_cmd("Browser.setDownloadBehavior", behaviour)
    try:
        yield browser
    finally:
        browser.quit()


def resize(browser: webdriver.Chrome, width_px: int, height_px: int = 900) -> None:
    """Gives the page this size."""
    size = {"width": width_px, "height": height_px, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)


def wait_for(condition: Callable[[], Any], what: str) -> Any:
    """What the condition gives as soon as it is true."""
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        found = condition()
        if found:
            return found
        time.sleep(0.05)
    raise AssertionError(f"not within {PATIENCE_S} s: {what}")


def complaints(browser: webdriver.Chrome, level: str | None = None) -> list[str]:
    """What the page wrote to the console since the last call: all of it, or of one level."""
    entries = browser.get_log("browser")
    return [entry["message"] for entry in entries if level in (None, entry["level"])]


def requests(browser: webdriver.Chrome) -> list[str]:
    """Addresses that the browser asked for since the last call."""
    events = (json.loads(entry["message"])["message"] for entry in browser.get_log("performance"))
    return [
        event["params"]["request"]["url"]
        for event in events
        if event["method"] == "Network.requestWillBeSent"
    ]
