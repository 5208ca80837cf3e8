"""How the charts are drawn, as altair charts without their data.

The data is named and joined on last: altair validates what it is given, and a large study has many
charts of few shapes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import altair as alt

from bench.report.palette import Look
from bench.report.points import MARK_STEP_PX, SCORE, Quantity

Chart: TypeAlias = Any  # altair's methods return unions that its own functions do not take
SHOWN = "shown"  # the architectures to draw; the page's legend sets it
GREY = "#8a8a8a"
HEIGHT_PX = 240
DRAWN = "drawn"
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
    prefix: str = ""  # of the names of its data: `points`, `chance`, `failures`

    @property
    def note(self) -> str:
        """How to read the chart."""
        if not self.chance:
            return self.quantity.note
        chance = (
            "dotted: chance" if self.chance == DRAWN else f"chance {self.chance}, off the scale"
        )
        return f"{self.quantity.note}; {chance}"


def against_length(shape: Shape) -> Chart:
    """A line per architecture with its band, the chance level, and a mark for each failure."""
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
    y = alt.Y("value:Q", scale=scale, axis=alt.Axis(title=None, format=format_, tickCount=5))
    tooltip = [
        alt.Tooltip("architecture:N"),
        alt.Tooltip("length:Q", format=",d"),
        alt.Tooltip("text:N", title=quantity.title.lower()),
        alt.Tooltip("seeds:N") if quantity is SCORE else alt.Tooltip("kernel:N"),
    ]
    base = _chart(f"{shape.prefix}points").encode(x=x, color=_colour(shape.drawn))
    layers = []
    if shape.chance == DRAWN:
        rule = alt.Chart(alt.NamedData(name=f"{shape.prefix}chance")).encode(x=x, y=y)
        layers.append(rule.mark_line(strokeDash=[2, 3], color=GREY))
    if shape.has_intervals:
        band = base.mark_area(opacity=0.16)
        layers.append(band.encode(y=alt.Y("low:Q", scale=scale), y2="high:Q"))
    layers.append(base.mark_line(strokeWidth=2).encode(y=y, strokeDash=_dash()))
    dots = base.mark_point(filled=True, size=55, opacity=1)
    layers.append(dots.encode(y=y, shape=shapes(shape.drawn), tooltip=tooltip))
    if not shape.n_stacked_failures:
        return alt.layer(*layers)
    marks = _chart(f"{shape.prefix}failures").mark_text(text="×", fontSize=17, fontWeight="bold")
    failures = marks.encode(
        x=x,
        y=alt.Y("slot:Q", scale=None, axis=None),
        color=_colour(shape.drawn),
        tooltip=["architecture:N", alt.Tooltip("length:Q", format=",d"), "text:N"],
    )
    return alt.layer(alt.layer(*layers), failures).resolve_scale(y="independent")


def by_step(drawn: Sequence[Look]) -> Chart:
    """Learning curves, every seed a line."""
    y = alt.Y(
        "value:Q",
        scale=alt.Scale(zero=False, padding=8),
        axis=alt.Axis(title=None, format="~g", tickCount=5),
    )
    line = _chart("points").mark_line(strokeWidth=1.5, opacity=0.75)
    return alt.layer(
        line.encode(
            x=alt.X("step:Q", axis=alt.Axis(title="step", grid=False, tickCount=5)),
            y=y,
            color=_colour(drawn),
            detail="seed:N",
            tooltip=["architecture:N", "seed:O", "step:Q", "value:Q"],
        )
    )


def shown(drawn: Sequence[Look]) -> alt.Parameter:
    """The parameter that says which architectures are drawn: at first all."""
    return alt.param(name=SHOWN, value=[look.architecture for look in drawn])


def styled(chart: Chart, *, ink: str, background: str, legend: bool) -> Chart:
    """Quiet axes in one ink."""
    config = chart.configure(background=background, font=FONT).configure_view(stroke=None)
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


def _chart(data: str) -> alt.Chart:
    chart = alt.Chart(alt.NamedData(name=data))
    return chart.transform_filter(f"indexof({SHOWN}, datum.architecture) >= 0")


def _colour(drawn: Sequence[Look]) -> alt.Color:
    names, colours = [look.architecture for look in drawn], [look.colour for look in drawn]
    return alt.Color("architecture:N", scale=alt.Scale(domain=names, range=colours))


def shapes(drawn: Sequence[Look]) -> alt.Shape:
    """The shape of each architecture's marks."""
    names, shapes = [look.architecture for look in drawn], [look.shape for look in drawn]
    return alt.Shape("architecture:N", scale=alt.Scale(domain=names, range=shapes))


def _dash() -> alt.StrokeDash:
    scale = alt.Scale(domain=[False, True], range=[[1, 0], [6, 3]])
    return alt.StrokeDash("reference:N", scale=scale, legend=None)
