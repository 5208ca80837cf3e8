"""The picture of vanishing and exploding gradients: their norm against distance, as in the rows.

A line per run, in the architecture's colour; a panel before training and one after it.

k distance in tokens.
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Iterator, Sequence
from typing import Any, Literal, TypeAlias

import altair as alt
import pandas as pd

from bench.records.markdown import finite
from bench.records.summary import lines_of
from bench.report import panels
from bench.report.palette import Look
from bench.report.panels import GREY, HEIGHT_PX, Chart
from bench.report.points import Point

Source: TypeAlias = Literal["input", "state"]
STAGES = {"init": "before training", "trained": "after training"}
COLUMN = "reach_input_json"  # of the tidy table
NOTE = "norm of the gradient k tokens back, relative to k = 1; dotted: 1%, the effective reach"
MAX_DECADES = 12
"""Lines end where they leave this many decades on either side of 1: rounding noise, or overflow."""
EFFECTIVE_SHARE = 0.01
IMAGE_WIDTH_PX = 300
DOT_PX2 = 28
INK = "#333333"


def points(frame: pd.DataFrame, source: Source = "input") -> list[Point]:
    """What is drawn of the rows of a tidy table: one point per run, stage and distance.

    Values that are missing or no finite number leave gaps; a curve without a first value is not
    drawn, since nothing is relative to it.
    """
    column = f"reach_{source}_json"
    if column not in frame:
        return []
    found: list[Point] = []
    for line in lines_of(frame[frame[column].notna()]):
        curves = _curves(line[column])
        for stage in STAGES:
            found += _relative(line, stage, curves.get("k", []), curves.get(stage, []))
    return found


def picture(
    frame: pd.DataFrame, drawn: Sequence[Look], source: Source = "input", title: str = ""
) -> dict[str, Any] | None:
    """Both panels side by side as a Vega-Lite specification with its data; None without curves.

    `frame` is a tidy table, of one task and length if lines are to be compared; `drawn` are the
    looks of the whole study.
    """
    data = points(frame, source)
    stages = [stage for stage in STAGES if any(point["stage"] == stage for point in data)]
    if not stages:
        return None
    scale = _value_scale(data)
    drawings = [
        panel(stage, drawn, scale).properties(
            width=IMAGE_WIDTH_PX, height=HEIGHT_PX, title=STAGES[stage]
        )
        for stage in stages
    ]
    text = alt.TitleParams(title or "Reach of the gradient", subtitle=NOTE)
    together = alt.hconcat(*drawings, title=text).add_params(panels.shown(drawn))
    styled = panels.styled(together, ink=INK, background="white", legend=True)
    return {**styled, "datasets": {"reach": data}}


def longest(frame: pd.DataFrame) -> pd.DataFrame:
    """The runs that measured it, at the longest length at which any did."""
    if COLUMN not in frame:
        return frame.iloc[:0]
    measured: pd.DataFrame = frame[frame[COLUMN].notna()]
    found: pd.DataFrame = measured[measured["length"] == measured["length"].max()]
    return found


def images(frame: pd.DataFrame, drawn: Sequence[Look]) -> Iterator[tuple[str, dict[str, Any]]]:
    """A file name and a picture for each task, at its longest length."""
    used: set[str] = set()
    for task, runs in frame.groupby("task", sort=False):
        found = longest(runs)
        if not len(found):
            continue
        title = f"{task}, length {found['length'].iloc[0]:,}: reach of the gradient"
        if spec := picture(found, drawn, title=title):
            safe = "".join(sign if sign.isascii() and sign.isalnum() else "_" for sign in str(task))
            name = next(
                name
                for n in itertools.count(1)
                if (name := f"gradient_reach_{safe[:60]}{'' if n == 1 else f'_{n}'}") not in used
            )
            used.add(name)
            yield name, spec


def for_page(
    frame: pd.DataFrame, drawn: Sequence[Look], source: Source = "input"
) -> list[tuple[str, dict[str, Any], dict[str, list[Point]]]]:
    """Title, specification and data of each panel, as wide as its place on the page."""
    data = points(frame, source)
    scale = _value_scale(data) if data else None
    found = []
    for stage, name in STAGES.items():
        part = [point for point in data if point["stage"] == stage]
        if not part:
            continue
        sized = panel(stage, drawn, scale).properties(width="container", height=HEIGHT_PX)
        chart = sized.add_params(panels.shown(drawn))
        styled = panels.styled(chart, ink="currentColor", background="transparent", legend=False)
        found.append((f"Reach of the gradient {name}", styled, {"reach": part}))
    return found


def panel(stage: str, drawn: Sequence[Look], scale: Any) -> Chart:
    """One stage: a line per run on logarithmic axes. Its data is named `reach`."""
    x = alt.X(
        "k:Q",
        scale=alt.Scale(type="log", base=2, nice=False),
        axis=alt.Axis(format="~s", title="distance k (tokens)", grid=False, tickCount=8),
    )
    axis = alt.Axis(title=None, format="~e", tickCount=6)
    y = alt.Y("value:Q", scale=scale, axis=axis)
    chart = panels.shown_of("reach").transform_filter(f"datum.stage === '{stage}'")
    base = chart.encode(
        x=x,
        y=y,
        color=panels.colours(drawn),
        detail="id:N",
        tooltip=["architecture:N", "seed:O", "k:Q", alt.Tooltip("value:Q", format=".3g")],
    )
    line = base.mark_line(strokeWidth=2, interpolate="linear")
    dots = panels.dots(base, drawn, DOT_PX2)
    level = alt.Chart(alt.NamedData(name="reach")).transform_aggregate(n="count()")
    level = level.transform_calculate(share=str(EFFECTIVE_SHARE))
    rule = level.mark_rule(strokeDash=[2, 3], color=GREY)
    return alt.layer(rule.encode(y=alt.Y("share:Q", scale=scale, axis=axis)), line, dots)


def _curves(text: object) -> dict[str, list[float | None]]:
    """The distances and the values of each stage; nothing of what is no such text."""
    try:
        given = json.loads(str(text))
    except (ValueError, RecursionError):
        return {}
    lists = {
        name: [finite(value) for value in values]
        for name, values in (given.items() if isinstance(given, dict) else ())
        if isinstance(values, list)
    }
    distances = lists.get("k", [None])
    if not all(k is not None and k > 0 for k in distances):
        return {}
    return {name: values for name, values in lists.items() if len(values) == len(distances)}


def _relative(
    line: dict[str, Any], stage: str, distances: list[float | None], values: list[float | None]
) -> list[Point]:
    """The points of one curve, each divided by the first."""
    first = values[0] if values else None
    if first is None or not math.isfinite(first) or first <= 0:
        return []
    found = []
    for k, value in zip(distances, values, strict=True):
        if value is None or not 0 < (relative := value / first) < math.inf:
            continue
        if abs(math.log10(relative)) > MAX_DECADES:
            break
        found.append(
            {
                "id": line["id"],
                "architecture": line["architecture"],
                "seed": None if pd.isna(line["seed"]) else int(line["seed"]),
                "stage": stage,
                "k": k,
                "value": relative,
            }
        )
    return found


def _value_scale(data: list[Point]) -> Any:
    """Equal in both panels, whole decades, with 1 and the level of the effective reach in it."""
    values = [point["value"] for point in data]
    low = math.floor(math.log10(min(EFFECTIVE_SHARE / 2, *values)))
    high = math.ceil(math.log10(max(2.0, *values)))
    return alt.Scale(type="log", domain=[10.0**low, 10.0**high], nice=False)
