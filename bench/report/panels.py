"""How the charts are drawn, as altair charts without their data.

The data is named and joined on last: altair validates what it is given, and a large study has many
charts of few shapes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeAlias

import altair as alt

from bench.report.palette import Look
from bench.report.points import MARK_STEP_PX, SCORE, Quantity

Chart: TypeAlias = Any  # altair's methods return unions that its own functions do not take
SHOWN = "shown"  # the architectures to draw; the page's legend sets it
GREY = "#8a8a8a"
HEIGHT_PX = 240
END_PX2 = 40  # of the marks that end lines
DOT_PX2 = 55
DRAWN = "drawn"
LABEL_LIMIT_PX = 220  # of a name in a legend; the rest is cut
FONT = "system-ui, 'Liberation Sans', sans-serif"


@dataclass(frozen=True)
class Shape:
    """All that a chart against length depends on but its data."""

    quantity: Quantity
    lengths: tuple[int, ...]
    drawn: tuple[Look, ...]
    has_intervals: bool
    chance: str  # "": unknown; "drawn"; or the level, if it is too far away to be drawn
    n_stacked_failures: int  # at the length that has most
    ticks: tuple[float, ...]  # of the value axis; none: as it comes

    @property
    def note(self) -> str:
        """How to read the chart."""
        if not self.chance:
            return self.quantity.note
        chance = (
            "dotted: chance" if self.chance == DRAWN else f"chance {self.chance}, off the scale"
        )
        return f"{self.quantity.note}; {chance}"


def against_length(shape: Shape, prefix: str = "") -> Chart:
    """A line per architecture with its band, the chance level, and a mark for each failure.

    Its data is named `points`, `chance` and `failures`, with the prefix before it.
    """
    quantity, lengths = shape.quantity, shape.lengths
    room = 1.15  # at both ends, so that the last points are whole
    x = alt.X(
        "length:Q",
        scale=alt.Scale(
            type="log", base=2, domain=[lengths[0] / room, lengths[-1] * room], nice=False
        ),
        axis=alt.Axis(values=list(lengths), format=",d", title="length (tokens)", grid=False),
    )
    kind = {"type": "log"} if quantity.logarithmic else {"zero": False}
    strip_px = min(MARK_STEP_PX * shape.n_stacked_failures, HEIGHT_PX / 2)  # above the lines
    scale = alt.Scale(nice=False, padding=12, range=[HEIGHT_PX, strip_px], **kind)
    format_ = "~s" if quantity.logarithmic else "~g"
    y = alt.Y("value:Q", scale=scale, axis=value_axis(format_, shape.ticks))
    tooltip = [
        alt.Tooltip("architecture:N"),
        alt.Tooltip("length:Q", format=",d"),
        alt.Tooltip("text:N", title=quantity.title.lower()),
        alt.Tooltip("seeds:N") if quantity is SCORE else alt.Tooltip("kernel:N"),
    ]
    base = shown_of(f"{prefix}points").encode(x=x, color=colours(shape.drawn))
    layers = []
    if shape.chance == DRAWN:
        rule = alt.Chart(alt.NamedData(name=f"{prefix}chance")).encode(x=x, y=y)
        layers.append(rule.mark_line(strokeDash=[2, 3], color=GREY))
    if shape.has_intervals:
        band = base.mark_area(opacity=0.16)
        layers.append(band.encode(y=alt.Y("low:Q", scale=scale), y2="high:Q"))
    layers.append(base.mark_line(strokeWidth=2).encode(y=y, strokeDash=dash()))
    layers.append(dots(base.encode(y=y, tooltip=tooltip), shape.drawn))
    if not shape.n_stacked_failures:
        return alt.layer(*layers)
    marks = shown_of(f"{prefix}failures").mark_text(text="×", fontSize=17, fontWeight="bold")
    failures = marks.encode(
        x=x,
        y=alt.Y("slot:Q", scale=None, axis=None),
        color=colours(shape.drawn),
        tooltip=["architecture:N", alt.Tooltip("length:Q", format=",d"), "text:N"],
    )
    return alt.layer(alt.layer(*layers), failures).resolve_scale(y="independent")


def by_step(drawn: Sequence[Look], prefix: str = "") -> Chart:
    """Learning curves, every seed a line with its mark at the end. Their data is named `points`."""
    y = alt.Y(
        "value:Q",
        scale=alt.Scale(zero=False, padding=8),
        axis=value_axis("~g"),
    )
    base = shown_of(f"{prefix}points").encode(
        x=alt.X("step:Q", axis=alt.Axis(title="step", grid=False, tickCount=5)),
        y=y,
        color=colours(drawn),
        tooltip=["architecture:N", "seed:O", "step:Q", "value:Q"],
    )
    line = base.mark_line(strokeWidth=1.5).encode(strokeOpacity=_faint(drawn), detail="seed:N")
    ends = base.transform_joinaggregate(last="max(step)", groupby=["architecture", "seed"])
    ends = ends.transform_filter("datum.step == datum.last")
    return alt.layer(line, dots(ends, drawn, END_PX2))


def shown(drawn: Sequence[Look]) -> alt.Parameter:
    """The parameter that says which architectures are drawn: at first all."""
    return alt.param(name=SHOWN, value=[look.architecture for look in drawn])


def styled(chart: Chart, *, ink: str, background: str, legend: bool) -> dict[str, Any]:
    """The specification with quiet axes in one ink.

    The style is joined on last: altair copies the whole chart for each of its `configure_` methods.
    """
    return {**chart.to_dict(), "config": _style(ink, background, legend)}


@cache
def _style(ink: str, background: str, legend: bool) -> dict[str, Any]:
    config = alt.Config(
        aria=legend,  # the page says what a chart shows, its marks need not
        background=background,
        font=FONT,
        view=alt.ViewConfig(stroke=None),
        title=alt.TitleConfig(
            color=ink,
            subtitleColor=ink,
            fontSize=13,
            subtitleFontSize=10,
            subtitleFontWeight="normal",
            anchor="start",
        ),
        axis=alt.AxisConfig(
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
        ),
        legend=alt.LegendConfig(
            disable=not legend,
            labelColor=ink,
            title=None,
            labelFontSize=12,
            labelLimit=LABEL_LIMIT_PX,
            symbolSize=70,
            symbolOpacity=1,
        ),
    )
    return dict(config.to_dict())


def shown_of(data: str) -> alt.Chart:
    """A chart of the named data, of the architectures that the legend shows."""
    chart = alt.Chart(alt.NamedData(name=data))
    return chart.transform_filter(f"indexof({SHOWN}, datum.architecture) >= 0")


def value_axis(format_: str, ticks: Sequence[float] = ()) -> alt.Axis:
    """The axis of values, which the chart's title names."""
    values = list(ticks) if ticks else alt.Undefined
    return alt.Axis(title=None, format=format_, tickCount=5, values=values)


def decades(values: Sequence[float]) -> tuple[float, ...]:
    """Whole powers of ten on a logarithmic axis, if the values span two or more.

    Vega would draw a line for each tenth of each.
    """
    low, high = math.log10(min(values)), math.log10(max(values))
    if high - low < 2:
        return ()
    return tuple(10.0**power for power in range(math.ceil(low), math.floor(high) + 1))


def colours(drawn: Sequence[Look]) -> alt.Color:
    """The colour of each architecture."""
    names, colours = [look.architecture for look in drawn], [look.colour for look in drawn]
    return alt.Color("architecture:N", scale=alt.Scale(domain=names, range=colours))


def dots(base: Chart, drawn: Sequence[Look], size_px2: int = DOT_PX2) -> Chart:
    """Marks in the shape of their architecture, full or hollow as their study is."""
    marks = base.mark_point(filled=True, size=size_px2, opacity=1)
    names = [look.architecture for look in drawn]

    def scale(values: list[str]) -> alt.Scale:
        return alt.Scale(domain=names, range=values)

    shape = alt.Shape("architecture:N", scale=scale([look.shape for look in drawn]))
    if not _are_several(drawn):
        return marks.encode(shape=shape)
    marks.encoding.color = alt.Undefined
    inside = [f"{look.colour}{round(255 * look.fill):02x}" for look in drawn]
    return marks.encode(
        shape=shape,
        stroke=alt.Stroke("architecture:N", scale=scale([look.colour for look in drawn])),
        fill=alt.Fill("architecture:N", scale=scale(inside)),
    )


def _are_several(drawn: Sequence[Look]) -> bool:
    """Whether there are several studies side by side."""
    return any(look.fill < 1 for look in drawn)


def _faint(drawn: Sequence[Look]) -> alt.StrokeOpacity:
    """Lines without marks: the first study's are the strongest."""
    names = [look.architecture for look in drawn]
    strengths = [0.25 + 0.5 * look.fill for look in drawn]
    scale = alt.Scale(type="ordinal", domain=names, range=strengths)
    return alt.StrokeOpacity("architecture:O", scale=scale, legend=None)  # N would be warned of


def dash() -> alt.StrokeDash:
    """Dashed for reference kernels."""
    scale = alt.Scale(domain=[False, True], range=[[1, 0], [6, 3]])
    return alt.StrokeDash("reference:N", scale=scale, legend=None)
