"""The charts of a study as Vega-Lite specifications with their data, for the page and as images."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import altair as alt
import pandas as pd

from bench.records import files
from bench.records.expected import complete
from bench.records.markdown import number
from bench.records.store import Store
from bench.records.summary import summarise
from bench.report import gradients, panels
from bench.report.palette import Look, looks
from bench.report.panels import DRAWN, HEIGHT_PX, Chart, Shape
from bench.report.points import (
    MEMORY,
    SCORE,
    TRAIN_SPEED,
    Point,
    Quantity,
    chance,
    failures,
    far_from,
    points,
)
from bench.study import Study

Spec = dict[str, Any]
Datasets = dict[str, list[Point]]
IMAGE_WIDTH_PX = 300
IMAGE_SCALE = 2
N_IMAGE_COLUMNS = 2
N_IMAGE_TASKS = 6  # further ones are on the page
INK = "#333333"


def against_length(
    cells: pd.DataFrame, quantity: Quantity, drawn: Sequence[Look], prefix: str = ""
) -> tuple[Shape, Datasets] | None:
    """Shape and data of one task's `quantity` against length; None if nothing is known."""
    found, lost = points(cells, quantity), failures(cells, quantity)
    if not found:
        return None
    lengths = sorted({point["length"] for point in [*found, *lost]})
    level = chance(cells, lengths) if quantity is SCORE else []
    far = far_from(level, found)
    shape = Shape(
        quantity=quantity,
        lengths=tuple(lengths),
        drawn=tuple(drawn),
        has_intervals=any(point["low"] is not None for point in found),
        chance=number(level[0]["value"]) if far else DRAWN if level else "",
        n_stacked_failures=max(Counter(mark["length"] for mark in lost).values(), default=0),
        prefix=prefix,
    )
    named = {"points": found, "chance": [] if far else level, "failures": lost}
    return shape, {f"{prefix}{name}": data for name, data in named.items() if data}


@lru_cache(maxsize=64)
def for_page(shape: Shape) -> Spec:
    """As wide as its place, in the ink of the page, so that light, dark and print are alike."""
    return _sized_for_page(panels.against_length(shape), shape.drawn)


@lru_cache(maxsize=4)
def curves_for_page(drawn: tuple[Look, ...]) -> Spec:
    """Learning curves, like `for_page`."""
    return _sized_for_page(panels.by_step(drawn), drawn)


def write_images(study: Study, store: Store, folder: Path) -> list[Path]:
    """The main charts as SVG and PNG, on white: score, training speed, memory, gradient reach."""
    import vl_convert

    runs = complete(study, store)
    written = []
    for name, spec in _images(runs, summarise(runs)):
        svg = vl_convert.vegalite_to_svg(json.dumps(spec))
        for path, content in (
            (folder / f"{name}.svg", svg.encode()),
            (folder / f"{name}.png", vl_convert.svg_to_png(svg, scale=IMAGE_SCALE)),
        ):
            files.write_atomically(path, content)
            written.append(path)
    return written


def _images(runs: pd.DataFrame, cells: pd.DataFrame) -> Iterator[tuple[str, Spec]]:
    """File names and specifications; gradient reach is a picture for each task."""
    drawn = looks(list(dict.fromkeys(cells["architecture"])))
    for quantity in (SCORE, TRAIN_SPEED, MEMORY):
        if spec := _by_task(cells, quantity, drawn):
            yield quantity.title.lower().replace(" ", "_"), spec
    for title, spec in gradients.images(runs, drawn):
        yield title, spec


def _by_task(cells: pd.DataFrame, quantity: Quantity, drawn: Sequence[Look]) -> Spec | None:
    """A panel per task, with a legend."""
    drawings: list[Chart] = []
    datasets: Datasets = {}
    for task, part in cells.groupby("task", sort=False):
        found = against_length(part, quantity, drawn, prefix=f"{len(drawings)} ")
        if found is None or len(drawings) == N_IMAGE_TASKS:
            continue
        shape, data = found
        datasets |= data
        metric = part["metric"].iloc[0]
        what = metric if quantity is SCORE and isinstance(metric, str) else quantity.title
        title = alt.TitleParams(f"{task}: {what.lower()}", subtitle=shape.note)
        chart = panels.against_length(shape)
        drawings.append(chart.properties(width=IMAGE_WIDTH_PX, height=HEIGHT_PX, title=title))
    if not drawings:
        return None
    together = alt.concat(*drawings, columns=N_IMAGE_COLUMNS).add_params(panels.shown(drawn))
    styled = panels.styled(together, ink=INK, background="white", legend=True)
    return {**styled.to_dict(), "datasets": datasets}


def _sized_for_page(chart: Chart, drawn: Sequence[Look]) -> Spec:
    sized = chart.properties(width="container", height=HEIGHT_PX).add_params(panels.shown(drawn))
    styled = panels.styled(sized, ink="currentColor", background="transparent", legend=False)
    return dict(styled.to_dict())
