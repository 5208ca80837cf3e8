"""A real chromium, headless, that opens one page from disk and keeps what it said and asked for."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("chrome")
NEEDED = pytest.mark.skipif(CHROMIUM is None, reason="no chromium: apt-get install chromium")
DESKTOP_PX, PHONE_PX = 1280, 390
OPTIONS = (
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)
PATIENCE_MS = 120_000


@dataclass
class Opened:
    """A page, the console's words and every address it asked for beside its own."""

    page: Any
    console: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    loaded_s: float = 0.0  # until the page could be used
    drawn_s: float = 0.0  # until the last chart was there

    def texts(self, column: str) -> list[str]:
        """A column of the table of all cells, as shown."""
        found: list[str] = self.page.evaluate(
            """(name) => {
              const headings = [...document.querySelectorAll("#table th")];
              const at = headings.findIndex((one) => one.textContent.trim() === name);
              return [...document.querySelectorAll("#table tbody tr:not([hidden])")]
                .map((line) => line.cells[at].textContent);
            }""",
            column,
        )
        return found

    def overflow_px(self) -> int:
        """How far the page scrolls sideways."""
        measured: int = self.page.evaluate(
            "document.documentElement.scrollWidth - document.documentElement.clientWidth"
        )
        return measured


@contextmanager
def opened(
    file: Path, width_px: int = DESKTOP_PX, scheme: str = "light", **more: Any
) -> Iterator[Opened]:
    """The page after its last chart was drawn."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(OPTIONS))
        viewport = {"width": width_px, "height": 900}
        context = browser.new_context(viewport=viewport, color_scheme=scheme, **more)
        page = context.new_page()
        found = Opened(page)
        page.on("console", lambda message: found.console.append(message.text))
        page.on("pageerror", lambda error: found.console.append(str(error)))
        page.on("request", lambda request: found.requests.append(request.url))
        begun = time.monotonic()
        page.goto(file.as_uri(), timeout=PATIENCE_MS)
        found.loaded_s = time.monotonic() - begun
        page.wait_for_function("document.documentElement.dataset.drawn", timeout=PATIENCE_MS)
        found.drawn_s = time.monotonic() - begun
        found.requests.remove(file.as_uri())
        found.requests = [one for one in found.requests if not one.startswith("data:")]
        yield found
        browser.close()
