"""A chart in words, for who cannot see it: every line by what it starts and ends with."""

from __future__ import annotations

from collections.abc import Sequence

from bench.records.markdown import count, number
from bench.report.points import Point


def against(title: str, points: Sequence[Point], x: str, unit: str) -> str:
    """`Score against length. lstm: 0.9130 at 128 tokens, 0.5000 at 8,192 tokens; gru: ...`.

    Of several lines of one architecture (seeds) the first is told, and how many there are.
    """
    lines: dict[str, dict[str, list[Point]]] = {}
    for point in points:
        which = str(point.get("id", point.get("seed")))
        lines.setdefault(str(point["architecture"]), {}).setdefault(which, []).append(point)
    told = []
    for name, of_one in lines.items():
        line = next(iter(of_one.values()))
        ends = [line[0], line[-1]] if len(line) > 1 else line
        text = ", ".join(f"{_value(end)} at {count(end[x])} {unit}".rstrip() for end in ends)
        more = f", first of {len(of_one)} lines" if len(of_one) > 1 else ""
        told.append(f"{name}: {text}{more}")
    return f"{title}. {'; '.join(told)}."


def _value(point: Point) -> str:
    return str(point["text"]) if "text" in point else number(point["value"])
