"""A headless Chromium for tests of the console, by Debian's chromium and chromium-driver.

Used by tests/console/test_browser.py. Nothing is fetched: where no browser is installed, `missing` says so.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from selenium import webdriver
from selenium.common.exceptions import JavascriptException, StaleElementReferenceException
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.wait import WebDriverWait

PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage",
    "--no-proxy-server",
)
WAIT_S = 12.0


def missing() -> str:
    """Why there can be no browser here; "" when there can."""
    program = next(filter(None, map(shutil.which, PROGRAMS)), None)
    if program is None or shutil.which("chromedriver") is None:
        return "no Chromium here: apt-get install chromium chromium-driver"
    return ""


class Browser:
    """One browser with a profile of its own at the address `base`. Paths are those of the console."""

    def __init__(self, base: str) -> None:
        self.base = base
        self._profile = Path(tempfile.mkdtemp(prefix="hoopfast-browser-"))
        options = webdriver.ChromeOptions()
        options.binary_location = str(next(filter(None, map(shutil.which, PROGRAMS))))
        for flag in (*FLAGS, f"--user-data-dir={self._profile}"):
            options.add_argument(flag)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        try:
            self.driver = webdriver.Chrome(options, webdriver.ChromeService(shutil.which("chromedriver")))
        except BaseException:
            shutil.rmtree(self._profile, ignore_errors=True)
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.driver.quit()
        shutil.rmtree(self._profile, ignore_errors=True)

    def open(self, path: str) -> None:
        self.driver.get(self.base + path)

    @property
    def path(self) -> str:
        return str(self.driver.current_url).removeprefix(self.base)

    @property
    def text(self) -> str:
        """What a person reads on the page, by one script: a page that is being replaced cannot be half read."""
        return str(self.driver.execute_script("return document.body ? document.body.innerText : ''"))

    def wait(self, condition: Callable[[], Any], what: str) -> Any:
        passing = (StaleElementReferenceException, JavascriptException)
        waiting = WebDriverWait(self.driver, WAIT_S, poll_frequency=0.1, ignored_exceptions=passing)
        return waiting.until(lambda _: condition(), f"still not: {what}")

    def see(self, text: str) -> None:
        """Wait for a text on the page."""
        self.wait(lambda: text in self.text, f"{text!r} on {self.path}")

    def all(self, css: str) -> list[WebElement]:
        return list(self.driver.find_elements(By.CSS_SELECTOR, css))

    def one(self, css: str) -> WebElement:
        return self.driver.find_element(By.CSS_SELECTOR, css)

    def press(self, text: str) -> None:
        """Wait for the button or link with this text, click it, and wait for the page it leads to.

        A live page may replace the button at any moment; and whoever went on at once would be overtaken by the answer.
        """
        self.driver.execute_script("document.documentElement.dataset.left = 'yes'")
        self.wait(lambda: self._pressed(text), f"a button {text!r} on {self.path}")
        arrived = "return document.readyState == 'complete' && !document.documentElement.dataset.left"
        self.wait(lambda: self.driver.execute_script(arrived), f"what {text!r} leads to")

    def _pressed(self, text: str) -> bool:
        found = next((each for each in self.all("button, a") if text in each.text), None)
        if found is not None:
            found.click()
        return found is not None

    def fill(self, css: str, text: str) -> None:
        field = self.one(css)
        field.clear()
        field.send_keys(text)

    def resize(self, width: int) -> None:
        metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)

    def width_of_page(self) -> int:
        """What the page wants; more than the window means that it scrolls sideways."""
        return int(self.driver.execute_script("return document.documentElement.scrollWidth"))

    def complaints(self) -> list[str]:
        """What the browser wrote to its console since the last call: refused scripts, missing files, ..."""
        return [entry["message"] for entry in self.driver.get_log("browser")]
