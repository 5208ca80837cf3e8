"""The charts of a study as Vega-Lite specifications for the page, apart from their data."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import pandas as pd

from bench.records.markdown import number
from bench.report import panels, pareto, stream_charts
from bench.report.palette import Look
from bench.report.panels import DRAWN, HEIGHT_PX, Chart, Shape
from bench.report.points import SCORE, Point, Quantity, chance, failures, far_from, points

Spec = dict[str, Any]
Datasets = dict[str, list[Point]]


def against_length(
    cells: pd.DataFrame, quantity: Quantity, drawn: Sequence[Look]
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
        ticks=panels.decades([point["value"] for point in found]) if quantity.logarithmic else (),
    )
    named = {"points": found, "chance": [] if far else level, "failures": lost}
    return shape, {name: data for name, data in named.items() if data}


@lru_cache(maxsize=64)
def for_page(shape: Shape) -> Spec:
    """As wide as its place, in the ink of the page, so that light, dark and print are alike."""
    return _sized_for_page(panels.against_length(shape), shape.drawn)


@lru_cache(maxsize=4)
def curves_for_page(drawn: tuple[Look, ...]) -> Spec:
    """Learning curves, like `for_page`."""
    return _sized_for_page(panels.by_step(drawn), drawn)


@lru_cache(maxsize=4)
def front_for_page(cost: Quantity, drawn: tuple[Look, ...]) -> Spec:
    """Score against a cost, like `for_page`."""
    return _sized_for_page(pareto.chart(cost, drawn), drawn)


@lru_cache(maxsize=16)
def stream_for_page(shape: stream_charts.Shape, drawn: tuple[Look, ...]) -> Spec:
    """A quantity of streams against position, like `for_page`."""
    return _sized_for_page(stream_charts.chart(shape, drawn), drawn)


def _sized_for_page(chart: Chart, drawn: Sequence[Look]) -> Spec:
    sized = chart.properties(width="container", height=HEIGHT_PX).add_params(panels.shown(drawn))
    return panels.styled(sized, ink="currentColor", background="transparent", legend=False)
