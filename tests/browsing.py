"""A headless Chromium that logs network requests and console messages."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import pytest

FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    "--disable-dev-shm-usage",
    "--window-size=1360,1000",
)


def find_browser() -> tuple[str, str]:
    """Paths of chromium and chromedriver; if missing, skip the test, or fail it in CI."""
    paths = shutil.which("chromium"), shutil.which("chromedriver")
    if not all(paths) or find_spec("selenium") is None:
        why = (
            "NOT TESTED IN A BROWSER: chromium, chromedriver or selenium is missing. Install the "
            "Debian packages chromium and chromium-driver (tests/browser.sh does where it may), "
            "and selenium."
        )
        if os.environ.get("CI") == "true":
            pytest.fail(why)
        pytest.skip(why)
    return str(paths[0]), str(paths[1])


@contextmanager
def browser(profile: Path) -> Iterator:
    """A driver for a new Chromium with this profile."""
    chromium, chromedriver = find_browser()
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for flag in (*FLAGS, f"--user-data-dir={profile}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(chromedriver))
    try:
        yield driver
    finally:
        driver.quit()


def requests_of(driver) -> list[str]:
    """URLs requested since the last call."""
    messages = [json.loads(entry["message"])["message"] for entry in driver.get_log("performance")]
    return [
        message["params"]["request"]["url"]
        for message in messages
        if message["method"] == "Network.requestWillBeSent"
    ]
