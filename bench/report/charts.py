"""The charts: one Vega-Lite specification each, for the page and for images alike."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeAlias

import altair as alt
import pandas as pd

from bench.records import files
from bench.records.expected import complete
from bench.records.store import Store
from bench.records.summary import summarise
from bench.report.palette import Look, looks
from bench.report.points import (
    MEMORY,
    SCORE,
    TRAIN_SPEED,
    Point,
    Quantity,
    chance,
    failures,
    points,
)
from bench.study import Study

Spec = dict[str, Any]
Chart: TypeAlias = Any  # altair's methods return unions that its own functions do not take
HEIGHT_PX = 240
IMAGE_WIDTH_PX = 300
IMAGE_SCALE = 2
N_IMAGE_COLUMNS = 2
N_IMAGE_TASKS = 6  # further ones are on the page
INK = "#333333"
GREY = "#8a8a8a"
SHOWN = "shown"  # the architectures to draw; the page's legend sets it


def against_length(cells: pd.DataFrame, quantity: Quantity, drawn: Sequence[Look]) -> Chart | None:
    """One task's `quantity` against length, a line per architecture; None if nothing is known."""
    found = points(cells, quantity)
    lost = failures(cells, quantity)
    if not found:
        return None
    lengths = sorted({point["length"] for point in [*found, *lost]})
    x = alt.X(
        "length:Q",
        scale=alt.Scale(type="log", base=2, domain=_domain(lengths), nice=False),
        axis=alt.Axis(values=lengths, format=",d", title="length (tokens)", grid=False),
    )
    kind = {"type": "log"} if quantity.logarithmic else {"zero": False}
    scale = alt.Scale(nice=False, padding=12, **kind)
    y = alt.Y(
        "value:Q",
        scale=scale,
        axis=alt.Axis(title=None, format="~s" if quantity.logarithmic else "~g", tickCount=5),
    )
    colour, shape = _colour(drawn), _shape(drawn)
    tooltip = [
        alt.Tooltip("architecture:N"),
        alt.Tooltip("length:Q", format=",d"),
        alt.Tooltip("text:N", title=quantity.title.lower()),
        alt.Tooltip("seeds:N") if quantity is SCORE else alt.Tooltip("kernel:N"),
    ]
    base = _chart(found).encode(x=x, color=colour)
    band = base.mark_area(opacity=0.16).encode(y=alt.Y("low:Q", scale=scale), y2="high:Q")
    line = base.mark_line(strokeWidth=2).encode(y=y, strokeDash=_dash())
    dots = base.mark_point(filled=True, size=55, opacity=1).encode(
        y=y, shape=shape, tooltip=tooltip
    )
    layers = [line, dots]
    if any(point["low"] is not None for point in found):
        layers.insert(0, band)
    if quantity is SCORE and (level := chance(cells)):
        rule = alt.Chart(alt.InlineData(values=level)).encode(x=x, y=y)
        layers.insert(0, rule.mark_line(strokeDash=[2, 3], color=GREY, point=False))
    marks = _chart(lost).mark_text(text="×", fontSize=17, fontWeight="bold")
    lost_marks = marks.encode(
        x=x,
        y=alt.Y("slot:Q", scale=None, axis=None),
        color=colour,
        tooltip=["architecture:N", alt.Tooltip("length:Q", format=",d"), "text:N"],
    )
    if not lost:
        return alt.layer(*layers)
    return alt.layer(alt.layer(*layers), lost_marks).resolve_scale(y="independent")


def learning_curves(found: list[Point], drawn: Sequence[Look]) -> Chart:
    """Every seed's curve, by step."""
    return alt.layer(
        _chart(found)
        .mark_line(strokeWidth=1.5, opacity=0.75)
        .encode(
            x=alt.X("step:Q", axis=alt.Axis(title="step", grid=False, tickCount=5)),
            y=alt.Y(
                "value:Q",
                scale=alt.Scale(zero=False, padding=8),
                axis=alt.Axis(title=None, format="~g", tickCount=5),
            ),
            color=_colour(drawn),
            detail="seed:N",
            tooltip=["architecture:N", "seed:O", "step:Q", "value:Q"],
        )
    )


def for_page(chart: Chart, drawn: Sequence[Look]) -> Spec:
    """As wide as its place, in the ink of the page, so that light, dark and print are alike."""
    shown = alt.param(name=SHOWN, value=[look.architecture for look in drawn])
    sized = chart.properties(width="container", height=HEIGHT_PX).add_params(shown)
    styled = _styled(sized, ink="currentColor", background="transparent", legend=False)
    return dict(styled.to_dict())


def write_images(study: Study, store: Store, folder: Path) -> list[Path]:
    """The main charts as SVG and PNG, on white: score, training speed and memory, by task."""
    import vl_convert

    cells = summarise(complete(study, store))
    drawn = looks(list(dict.fromkeys(cells["architecture"])))
    written = []
    for quantity in (SCORE, TRAIN_SPEED, MEMORY):
        chart = _by_task(cells, quantity, drawn)
        if chart is None:
            continue
        spec = json.dumps(_styled(chart, ink=INK, background="white", legend=True).to_dict())
        svg = vl_convert.vegalite_to_svg(spec)
        name = quantity.title.lower().replace(" ", "_")
        for path, content in (
            (folder / f"{name}.svg", svg.encode()),
            (folder / f"{name}.png", vl_convert.svg_to_png(svg, scale=IMAGE_SCALE)),
        ):
            files.write_atomically(path, content)
            written.append(path)
    return written


def _by_task(cells: pd.DataFrame, quantity: Quantity, drawn: Sequence[Look]) -> Chart | None:
    panels: list[Chart] = []
    for task, part in cells.groupby("task", sort=False):
        chart = against_length(part, quantity, drawn)
        if chart is not None and len(panels) < N_IMAGE_TASKS:
            metric = part["metric"].iloc[0]
            what = metric if quantity is SCORE and isinstance(metric, str) else quantity.title
            panels.append(
                chart.properties(
                    width=IMAGE_WIDTH_PX,
                    height=HEIGHT_PX,
                    title=alt.TitleParams(f"{task}: {what.lower()}", subtitle=quantity.note),
                )
            )
    shown = alt.param(name=SHOWN, value=[look.architecture for look in drawn])
    return alt.concat(*panels, columns=N_IMAGE_COLUMNS).add_params(shown) if panels else None


def _chart(found: list[Point]) -> alt.Chart:
    data = alt.InlineData(values=found)
    return alt.Chart(data).transform_filter(f"indexof({SHOWN}, datum.architecture) >= 0")


def _colour(drawn: Sequence[Look]) -> alt.Color:
    names, colours = [look.architecture for look in drawn], [look.colour for look in drawn]
    return alt.Color("architecture:N", scale=alt.Scale(domain=names, range=colours))


def _shape(drawn: Sequence[Look]) -> alt.Shape:
    names, shapes = [look.architecture for look in drawn], [look.shape for look in drawn]
    return alt.Shape("architecture:N", scale=alt.Scale(domain=names, range=shapes))


def _dash() -> alt.StrokeDash:
    scale = alt.Scale(domain=[False, True], range=[[1, 0], [6, 3]])
    return alt.StrokeDash("reference:N", scale=scale, legend=None)


def _domain(lengths: list[int]) -> list[float]:
    """A little room at both ends, so that the last points are whole."""
    return [lengths[0] / 1.15, lengths[-1] * 1.15]


def _styled(chart: Chart, *, ink: str, background: str, legend: bool) -> Chart:
    config = chart.configure(background=background, font="system-ui, 'Liberation Sans', sans-serif")
    config = config.configure_view(stroke=None)
    config = config.configure_title(
        color=ink,
        subtitleColor=ink,
        fontSize=13,
        subtitleFontSize=10,
        subtitleFontWeight="normal",
        anchor="start",
    )
    config = config.configure_axis(
        labelColor=ink,
        titleColor=ink,
        domainColor=ink,
        tickColor=ink,
        gridColor=ink,
        gridOpacity=0.12,
        domainOpacity=0.4,
        tickOpacity=0.4,
        labelFontSize=11,
        titleFontSize=11,
        titleFontWeight="normal",
        labelOverlap="greedy",
    )
    return config.configure_legend(
        disable=not legend,
        labelColor=ink,
        title=None,
        labelFontSize=12,
        symbolSize=70,
        symbolOpacity=1,
    )
