"""Score against what it costs: who cannot be beaten in both, at one length of one task.

The front is that of the mean scores and of the measured speed or memory. As everywhere, plain
PyTorch is not set against fused kernels: it is drawn, marked †, and is on the front only where
there is nothing else.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import altair as alt
import pandas as pd

from bench.records.markdown import finite
from bench.records.summary import lines_of
from bench.report import panels
from bench.report.palette import Look
from bench.report.panels import GREY, Chart
from bench.report.points import MEMORY, SCORE, TRAIN_SPEED, Point, Quantity, text_of
from bench.report.statistics import kernel_class

Step: TypeAlias = Literal["step-after", "step-before"]
COSTS = (TRAIN_SPEED, MEMORY)
MARK_GAP_PX = 9


@dataclass(frozen=True)
class Front:
    """One picture."""

    cost: Quantity
    length: int
    higher_is_better: bool
    points: list[Point]

    @property
    def names(self) -> list[str]:
        """The architectures on the front, the cheapest first."""
        on = [point for point in self.points if point["front"]]
        on.sort(key=lambda point: point["cost"], reverse=self.cost is not MEMORY)
        return [str(point["architecture"]) for point in on]

    @property
    def note(self) -> str:
        """How to read it."""
        across = "left" if self.cost is MEMORY else "right"
        better = f"{'up' if self.higher_is_better else 'down'} and {across}"
        marked = "; †: plain PyTorch kernel" if any(p["reference"] for p in self.points) else ""
        unit = "MiB" if self.cost is MEMORY else "tokens/s"
        return f"{unit}; better is {better}; grey: the front; bars: 95% interval{marked}"


def fronts(cells: pd.DataFrame) -> list[Front]:
    """The pictures of one task, each at the length at which most can be compared.

    Of several such lengths it is the longest. One architecture alone is no picture.
    """
    found = []
    higher = cells["higher_is_better"].dropna()
    higher_is_better = bool(higher.iloc[0]) if len(higher) else True
    for cost in COSTS:
        both = cells[cells["score"].notna() & (cells[cost.column] > 0)]
        sizes = both.groupby("length").size()
        if sizes.empty or sizes.max() < 2:
            continue
        length = int(sizes[sizes == sizes.max()].index.max())
        known = _points(both[both["length"] == length], cost, higher_is_better)
        found.append(Front(cost, length, higher_is_better, known))
    return found


def chart(cost: Quantity, drawn: Sequence[Look], prefix: str = "") -> Chart:
    """A mark per architecture and the front as a staircase. Its data is named `points`."""
    data = f"{prefix}points"
    x = alt.X(
        "cost:Q",
        scale=alt.Scale(type="log", nice=False, padding=16),
        axis=alt.Axis(title=None, format="~s", tickCount=5, grid=False),
    )
    scale = alt.Scale(zero=False, padding=12)
    y = alt.Y("score:Q", scale=scale, axis=panels.value_axis("~g"))
    base = panels.shown_of(data).encode(x=x, color=panels.colours(drawn))
    step: Step = "step-after" if cost is MEMORY else "step-before"
    stairs = alt.Chart(alt.NamedData(name=data)).transform_filter("datum.front")
    line = stairs.mark_line(interpolate=step, color=GREY, opacity=0.6, strokeWidth=1.5)
    bars = base.transform_filter("isValid(datum.low)").mark_rule(opacity=0.5)
    plain = base.transform_filter("datum.reference").mark_text(
        text="†", dx=MARK_GAP_PX, align="left", fontSize=12
    )
    tooltip = [
        alt.Tooltip("architecture:N"),
        alt.Tooltip("score_text:N", title="score"),
        alt.Tooltip("cost_text:N", title=cost.title.lower()),
        alt.Tooltip("kernel:N"),
    ]
    return alt.layer(
        line.encode(x=x, y=y),
        bars.encode(y=alt.Y("low:Q", scale=scale), y2="high:Q"),
        plain.encode(y=y),
        panels.dots(base.encode(y=y, tooltip=tooltip), drawn, 2 * panels.DOT_PX2),
    )


def _points(cells: pd.DataFrame, cost: Quantity, higher_is_better: bool) -> list[Point]:
    lines = lines_of(cells)
    plain = [kernel_class(cell["kernel"]) == "reference" for cell in lines]
    ranked = [not one for one in plain] if not all(plain) else [True] * len(lines)
    up = 1 if higher_is_better else -1
    right = -1 if cost is MEMORY else 1
    places = [
        (up * float(cell["score"]), right * float(cell[cost.column])) if counts else None
        for cell, counts in zip(lines, ranked, strict=True)
    ]
    return [
        {
            "architecture": cell["architecture"],
            "cost": float(cell[cost.column]) / cost.unit_size,
            "score": float(cell["score"]),
            "low": finite(cell["score_low"]),
            "high": finite(cell["score_high"]),
            "score_text": text_of(cell, SCORE),
            "cost_text": text_of(cell, cost),
            "kernel": cell["kernel"] if isinstance(cell["kernel"], str) else "unknown",
            "reference": is_plain,
            "front": place is not None and not _is_beaten(place, places),
        }
        for cell, is_plain, place in zip(lines, plain, places, strict=True)
    ]


def _is_beaten(place: tuple[float, float], others: Sequence[tuple[float, float] | None]) -> bool:
    """Whether another is at least as good in both, and better in one."""
    return any(
        other is not None and other != place and other[0] >= place[0] and other[1] >= place[1]
        for other in others
    )
