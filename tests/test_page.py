"""The page in a real browser: it draws, sorts and filters, says no error and asks for nothing."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import pytest

from bench.records.store import Store
from bench.report import page
from tests import browser, synthetic
from tests.browser import Opened


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
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("study")
    runs, store = synthetic.runs(), Store(folder)
    synthetic.pack(store, synthetic.came(runs))
    return page.write(synthetic.study(runs, folder), store, folder / "report.html")


@pytest.fixture
def shown(file: Path) -> Iterator[Opened]:
    with browser.opened(file) as found:
        yield found
        assert found.console == []
        assert found.requests == []


def test_the_page_refers_to_nothing_outside_itself(file: Path) -> None:
    html = file.read_text(encoding="utf-8")
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
@browser.NEEDED
def test_every_chart_is_drawn_and_says_what_it_shows(shown: Opened) -> None:
    drawn = shown.page.locator("[role=img] .chart svg")
    assert drawn.count() == 2 * 7  # tasks x (score, two speeds, memory, two fronts, curves)
    assert shown.page.locator(".chart svg path").count() > 100
    for label in shown.page.locator("[role=img]").evaluate_all(
        "all => all.map((one) => one.getAttribute('aria-label'))"
    ):
        assert re.search(r"On the front: \w+|lstm: ", label)
    assert shown.overflow_px() <= 0


@pytest.mark.browser
@browser.NEEDED
def test_the_table_is_sorted_by_the_keyboard_and_says_so(shown: Opened) -> None:
    heading = shown.page.locator("#table th", has_text="train tokens/s")
    heading.locator("button").focus()
    for key, order in (("Enter", "ascending"), ("Space", "descending")):
        shown.page.keyboard.press(key)
        assert heading.get_attribute("aria-sort") == order
        assert shown.page.locator("#table th[aria-sort=none]").count() > 5
        texts = shown.texts("train tokens/s")
        values = [float(re.sub(r"[^\d.]", "", text)) for text in texts if text]
        assert values == sorted(values, reverse=order == "descending")
        assert texts[-1] == ""  # what is missing stays last
    outline = "getComputedStyle(document.activeElement).outlineStyle"
    assert shown.page.evaluate(outline) == "solid"


@pytest.mark.browser
@browser.NEEDED
def test_the_tabulator_key_reaches_all_that_can_be_used(shown: Opened) -> None:
    reached = set()
    for _ in range(80):
        shown.page.keyboard.press("Tab")
        reached.add(shown.page.evaluate("document.activeElement.textContent.trim()"))
        if shown.page.evaluate("document.activeElement.id") == "filter":
            break
    assert {"Theme: system", "What was run", "lstm", "transformer"} <= reached
    assert any(text.startswith("Data") for text in reached)
    shown.page.keyboard.type("lstm 8192")
    assert sorted(shown.texts("architecture")) == ["lstm", "lstm", "lstm_stack", "lstm_stack"]
    assert shown.page.locator("#matches").text_content() == "4 of 56 cells"


@pytest.mark.browser
@browser.NEEDED
def test_the_legend_hides_an_architecture_in_charts_and_table(shown: Opened) -> None:
    def n_marks() -> int:
        count: int = shown.page.locator(".chart svg path[fill='#0173b2']").count()
        return count

    before = n_marks()
    button = shown.page.locator("#legend button", has_text="rnn")
    button.click()
    assert button.get_attribute("aria-pressed") == "false"
    assert "rnn" not in shown.texts("architecture")
    assert "lstm" in shown.texts("architecture")
    shown.page.wait_for_timeout(500)
    assert before > 0 == n_marks()


@pytest.mark.browser
@browser.NEEDED
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_theme_is_the_systems_until_it_is_chosen(file: Path, scheme: str) -> None:
    with browser.opened(file, scheme=scheme) as found:
        paper = "getComputedStyle(document.body).backgroundColor"
        ink = "getComputedStyle(document.querySelector('.chart svg text')).fill"
        white, black = "rgb(255, 255, 255)", "rgb(22, 24, 28)"
        assert found.page.evaluate(paper) == (white if scheme == "light" else black)
        seen = []
        for _ in range(3):
            found.page.locator("#theme").click()
            seen.append((found.page.evaluate(paper), found.page.evaluate(ink)))
        (light, dark_ink), (dark, light_ink), (system, _) = seen
        assert (light, dark) == (white, black)
        assert dark_ink != light_ink
        assert system == (white if scheme == "light" else black)
        found.page.emulate_media(media="print")
        assert found.page.evaluate(ink) == "rgb(0, 0, 0)"
        assert not found.page.locator("#theme").is_visible()
        assert found.console == []


@pytest.mark.browser
@browser.NEEDED
def test_every_chart_gives_its_data_as_a_table_and_as_csv(shown: Opened) -> None:
    places = shown.page.locator("details.data")
    assert places.count() == shown.page.locator(".chart").count()
    place = places.first
    place.locator("summary").click()
    link = place.locator("a", has_text="CSV")
    href = link.get_attribute("href")
    assert link.get_attribute("download").endswith(".csv")
    assert href.startswith("data:text/csv")
    lines = list(csv.DictReader(io.StringIO(unquote(href.partition(",")[2]))))
    assert len(lines) == place.locator("tbody tr").count()
    points = [line for line in lines if line["what"] == "points"]
    assert {"lstm", "gru"} <= {line["architecture"] for line in points}
    assert all(float(line["value"]) >= 0 for line in points)
    assert place.locator("a", has_text="SVG").get_attribute("href").startswith("data:image/svg")


@pytest.mark.browser
@browser.NEEDED
def test_the_shown_cells_are_downloaded_as_csv(shown: Opened) -> None:
    shown.page.locator("#filter").fill("gru adding")
    shown.page.evaluate("document.getElementById('csv').click()")
    href = shown.page.locator("#csv").get_attribute("href")
    lines = list(csv.DictReader(io.StringIO(unquote(href.partition(",")[2]))))
    assert [line["architecture"] for line in lines] == ["gru"] * 4


@pytest.mark.browser
@browser.NEEDED
def test_nothing_scrolls_sideways_on_a_phone(file: Path) -> None:
    with browser.opened(file, browser.PHONE_PX, has_touch=True) as found:
        assert found.overflow_px() <= 0
        assert found.console == []
        widths = found.page.locator(".chart svg").evaluate_all(
            "all => all.map((o) => o.clientWidth)"
        )
        assert min(widths) > 250


@pytest.mark.browser
@browser.NEEDED
def test_nothing_is_cut_off_on_paper(file: Path) -> None:
    """A4 within its margins is 700 px wide."""
    with browser.opened(file, 700) as found:
        found.page.emulate_media(media="print")
        assert found.overflow_px() <= 0
