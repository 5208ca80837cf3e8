"""A curve in a terminal: a small plot of dots, eight of them in every sign."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import TypeAlias

from bench.records.markdown import count, number

Point: TypeAlias = tuple[float, float | None]

BLANK = 0x2800  # the sign of Braille without a dot
DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))  # by line and column
PLAIN = "*"


def plot(points: Sequence[Point], *, n_columns: int = 64, n_lines: int = 8, braille: bool) -> str:
    """Draw a curve against its steps; a missing value is a gap. `braille`: or else in ASCII."""
    finite = [(x, y) for x, y in points if y is not None and math.isfinite(y)]
    if not finite:
        return "no finite value"
    low, high = min(y for _, y in finite), max(y for _, y in finite)
    first, last = min(x for x, _ in finite), max(x for x, _ in finite)
    dots = [[0] * n_columns for _ in range(n_lines)]
    for x, y in _line(points, (first, last), (low, high), 2 * n_columns, 4 * n_lines):
        dots[y // 4][x // 2] |= DOTS[y % 4][x % 2]
    labels = [""] * n_lines
    labels[0], labels[-1] = number(high), number(low)
    width = max(map(len, labels))
    rows = ["".join(_sign(dot, braille) for dot in line).rstrip(" ") for line in dots]
    lines = [f"{label:>{width}} | {row}".rstrip() for label, row in zip(labels, rows, strict=True)]
    start, end = count(first), count(last)
    space = " " * max(1, n_columns - len(start) - len(end))
    return "\n".join([*lines, f"{'':{width}}   {start}{space}{end} steps"])


def _sign(dot: int, braille: bool) -> str:
    if not dot:
        return " "
    return chr(BLANK + dot) if braille else PLAIN


def _line(
    points: Sequence[Point],
    across: tuple[float, float],
    up: tuple[float, float],
    n_x: int,
    n_y: int,
) -> Iterator[tuple[int, int]]:
    """The dots of a curve, columns from the left and lines from the top."""

    def place(point: Point) -> tuple[int, int] | None:
        x, y = point
        if y is None or not math.isfinite(y):
            return None
        return _scaled(x, across, n_x), n_y - 1 - _scaled(y, up, n_y)

    places = [place(point) for point in points]
    for start, end in pairwise(places):
        if start is not None and end is not None:
            n = max(abs(end[0] - start[0]), abs(end[1] - start[1]), 1)
            for i in range(n + 1):
                x, y = (round(a + (b - a) * i / n) for a, b in zip(start, end, strict=True))
                yield x, y
    yield from (found for found in places if found is not None)


def _scaled(value: float, ends: tuple[float, float], n: int) -> int:
    low, high = ends
    return n // 2 if high == low else round((value - low) / (high - low) * (n - 1))
