"""The page in a real browser: it draws, sorts and filters, says no error and asks for nothing."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from bench.records.store import Store
from bench.report import page
from tests import synthetic

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("chrome")
OPTIONS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    *("--enable-logging=stderr", "--v=0", "--virtual-time-budget=20000", "--window-size=1280,2000"),
)
DRIVER = """
(async () => {
  while (!document.documentElement.dataset.drawn) await new Promise((go) => setTimeout(go, 50));
  const column = (index) => [...document.querySelectorAll("#table tbody tr:not([hidden])")]
    .map((line) => line.cells[index].textContent);
  const headings = [...document.querySelectorAll("#table th")];
  const at = (name) => headings.findIndex((heading) => heading.textContent.trim() === name);
  const click = (name) => headings[at(name)].querySelector("button").click();
  const found = {drawn: Number(document.documentElement.dataset.drawn)};
  found.marks = document.querySelectorAll(".chart svg path").length;
  click("train tokens/s");
  found.ascending = column(at("train tokens/s"));
  found.sort = headings[at("train tokens/s")].getAttribute("aria-sort");
  click("train tokens/s");
  found.descending = column(at("train tokens/s"));
  const filter = document.getElementById("filter");
  filter.value = "lstm 8192";
  filter.dispatchEvent(new Event("input"));
  found.filtered = column(at("architecture"));
  filter.value = "";
  filter.dispatchEvent(new Event("input"));
  document.querySelector("#legend button").click();
  found.without_first = column(at("architecture"));
  found.requests = performance.getEntriesByType("resource").map((entry) => entry.name);
  found.width = document.documentElement.scrollWidth - document.documentElement.clientWidth;
  const result = document.createElement("pre");
  result.id = "result";
  result.textContent = JSON.stringify(found);
  document.body.append(result);
})();
"""


class Loads(HTMLParser):
    """Collects what a browser would load."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            loads = name in ("src", "href", "srcset", "action", "poster")
            if loads and value and not value.startswith(("data:", "#")):
                self.found.append(f"{tag} {name}={value}")


@pytest.fixture(scope="module")
def html(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("study")
    runs, store = synthetic.runs(), Store(folder)
    synthetic.fill(store, runs)
    return page.render(synthetic.study(runs, folder), store)


def test_the_page_refers_to_nothing_outside_itself(html: str) -> None:
    loads = Loads()
    loads.feed(html)
    assert loads.found == []
    own_style = re.search(r"<style>(.*?)</style>", html, re.DOTALL)
    assert own_style is not None
    assert "url(" not in own_style[1]
    assert "@import" not in own_style[1]
    assert "default-src 'none'" in html
    data = re.search(r'<script type="application/json" id="data">(.*?)</script>', html, re.DOTALL)
    assert data is not None
    urls = set(re.findall(r"https?://[^\"]+", data[1]))
    assert {url.split("/")[2] for url in urls} == {
        "vega.github.io"
    }  # names a schema, loads nothing
    assert '"url"' not in data[1]


def test_the_finder_of_loads_finds_one() -> None:
    loads = Loads()
    loads.feed('<img src="https://example.org/x.png">')
    assert loads.found


@pytest.mark.browser
@pytest.mark.skipif(CHROMIUM is None, reason="no chromium on PATH: apt-get install chromium")
def test_a_browser_draws_sorts_and_filters_without_an_error(html: str, tmp_path: Path) -> None:
    file = tmp_path / "driven.html"
    file.write_text(f"{html}<script>{DRIVER}</script>", encoding="utf-8")
    assert CHROMIUM is not None
    done = subprocess.run(
        [
            CHROMIUM,
            *OPTIONS,
            f"--user-data-dir={tmp_path / 'profile'}",
            "--dump-dom",
            file.as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert [line for line in done.stderr.splitlines() if "CONSOLE" in line] == []
    result = re.search(r'<pre id="result">(.*?)</pre>', done.stdout, re.DOTALL)
    assert result is not None
    found: dict[str, Any] = json.loads(result[1].replace("&quot;", '"'))
    assert found["drawn"] == 2 * 5  # tasks x (score, two speeds, memory, curves)
    assert found["marks"] > 100
    assert found["requests"] == []
    assert found["width"] <= 0, "the page scrolls sideways"
    up, down = (
        [float(re.sub(r"[^\d.]", "", text)) for text in found[name] if text]
        for name in ("ascending", "descending")
    )
    assert found["sort"] == "ascending"
    assert up == sorted(up)
    assert down == sorted(up, reverse=True)
    for name in ("ascending", "descending"):  # what is missing stays last
        assert found[name][-1] == ""
    assert sorted(found["filtered"]) == ["lstm", "lstm", "lstm_stack", "lstm_stack"]
    assert "rnn" not in found["without_first"]
    assert "lstm" in found["without_first"]
