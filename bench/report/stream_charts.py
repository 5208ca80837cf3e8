"""Pictures and table of streams: what a token costs, and how large the state is, by position."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import altair as alt
import pandas as pd

from bench.records.markdown import count, finite
from bench.records.summary import lines_of
from bench.report import panels
from bench.report.palette import Look
from bench.report.panels import Chart
from bench.report.points import Point
from bench.report.statistics import kernel_class
from bench.report.streams import STREAMS, streams

KEYS = ["architecture", "n_streams", "id"]
COLUMNS = (
    *(("architecture", False), ("streams", True)),
    *(("µs at first", True), ("µs at last", True), ("p99 at last", True), ("time", False)),
    *(("state bytes at first", True), ("at last", True), ("state", False), ("remark", False)),
)


@dataclass(frozen=True)
class Shape:
    """All that a picture depends on but its data."""

    positions: tuple[int, ...]
    ticks: tuple[float, ...]  # of the value axis
    has_intervals: bool


@dataclass(frozen=True)
class StreamPicture:
    """One quantity of the streams of one task."""

    name: str  # of its file
    title: str
    note: str
    shape: Shape
    points: list[Point]


def measured(runs: pd.DataFrame) -> pd.DataFrame:
    """The streams of one task, at the longest length at which some were measured."""
    columns = [name for name in runs.columns if STREAMS.fullmatch(str(name))]
    missing = [
        name
        for name in runs.columns
        if str(name).startswith("stream") and str(name).endswith("_missing")
    ]
    with_some = runs[runs[columns + missing].notna().any(axis=1)]
    return streams(with_some[with_some["length"] == with_some["length"].max()])


def pictures(found: pd.DataFrame) -> list[StreamPicture]:
    """Latency for each number of streams, and the state of the fewest."""
    if found.empty:
        return []
    pictured = []
    for n_streams, part in found.groupby("n_streams"):
        side = "one stream" if n_streams == 1 else f"{n_streams} streams side by side"
        pictured.append(
            _picture(
                part,
                f"stream_latency_{n_streams}",
                f"Latency of a token, {side}",
                "µs, median; band: 95% interval; dashed: plain PyTorch kernel",
                ("us_p50", "us_p50_low", "us_p50_high"),
            )
        )
    fewest = int(found["n_streams"].min())
    side = "one stream" if fewest == 1 else f"{fewest} streams"
    title, note = f"State of {side}", "bytes after so many tokens"
    fewest_part = found[found["n_streams"] == fewest]
    pictured.append(_picture(fewest_part, "stream_state", title, note, ("state_bytes", "", "")))
    return [one for one in pictured if one.points]


def chart(shape: Shape, drawn: Sequence[Look], prefix: str = "") -> Chart:
    """A line per run with its band on logarithmic axes. Its data is named `points`."""
    room = 1.15  # at both ends, so that the last points are whole
    positions = shape.positions
    domain = [positions[0] / room, positions[-1] * room]
    x = alt.X(
        "position:Q",
        scale=alt.Scale(type="log", domain=domain, nice=False),
        axis=alt.Axis(values=list(positions), format="~s", title="tokens read", grid=False),
    )
    scale = alt.Scale(type="log", nice=False, padding=12)
    y = alt.Y("value:Q", scale=scale, axis=panels.value_axis("~s", shape.ticks))
    base = panels.shown_of(f"{prefix}points").encode(
        x=x, color=panels.colours(drawn), detail="id:N"
    )
    tooltip = [
        alt.Tooltip("architecture:N"),
        alt.Tooltip("position:Q", format=",d"),
        alt.Tooltip("text:N", title="value"),
        alt.Tooltip("kernel:N"),
    ]
    layers = [
        base.mark_line(strokeWidth=2).encode(y=y, strokeDash=panels.dash()),
        panels.dots(base.encode(y=y, tooltip=tooltip), drawn),
    ]
    if shape.has_intervals:
        band = base.transform_filter("isValid(datum.low)").mark_area(opacity=0.16)
        layers.insert(0, band.encode(y=alt.Y("low:Q", scale=scale), y2="high:Q"))
    return alt.layer(*layers)


def table(found: pd.DataFrame) -> list[list[str]]:
    """The lines of a table with `COLUMNS`, one for each run and number of streams."""
    if found.empty:
        return []
    return [_line(part) for _, part in found.groupby(KEYS, sort=False)]


def _picture(
    part: pd.DataFrame, name: str, title: str, note: str, columns: tuple[str, str, str]
) -> StreamPicture:
    value, low, high = columns
    known = lines_of(part[part[value] > 0])
    unit = "µs" if value == "us_p50" else "bytes"
    points = [
        {
            "architecture": line["architecture"],
            "id": line["id"],
            "position": line["position"],
            "value": float(line[value]),
            "low": finite(line.get(low)),
            "high": finite(line.get(high)),
            "text": f"{count(line[value], 3 if low else None)} {unit}",
            "kernel": line["kernel"] if isinstance(line["kernel"], str) else "unknown",
            "reference": kernel_class(line["kernel"]) == "reference",
        }
        for line in known
    ]
    shape = Shape(
        positions=tuple(sorted({point["position"] for point in points})),
        ticks=panels.decades([point["value"] for point in points]) if points else (),
        has_intervals=any(point["low"] is not None for point in points),
    )
    return StreamPicture(name, title, note, shape, points)


def _line(part: pd.DataFrame) -> list[str]:
    first = part.iloc[0]
    timed, sized = part[part["us_p50"].notna()], part[part["state_bytes"].notna()]
    mark = " †" if kernel_class(first["kernel"]) == "reference" else ""
    return [
        f"{first['architecture']}{mark}",
        count(first["n_streams"]),
        _at(timed, 0, "us_p50", 3),
        _at(timed, -1, "us_p50", 3),
        _at(timed, -1, "us_p99", 3),
        _worded(first["time"]),
        _at(sized, 0, "state_bytes"),
        _at(sized, -1, "state_bytes"),
        _worded(first["state"]),
        "; ".join(dict.fromkeys(map(str, part["missing"].dropna()))),
    ]


def _at(part: pd.DataFrame, index: int, column: str, n_digits: int | None = None) -> str:
    """`593 at 1,000`: a value and the position it was measured at."""
    if part.empty:
        return ""
    line = part.iloc[index]
    return f"{count(line[column], n_digits)} at {count(line['position'])}"


def _worded(value: Any) -> str:
    return value if isinstance(value, str) else ""
