"""Everything about one row, as text for a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from bench.records.row import Row
from bench.report.text_plot import plot
from bench.terminal import one_line, printable


def sections(row: Row, *, braille: bool) -> Iterator[str]:
    """What was run, what came out, its curves and where it is from; each with its heading."""
    yield titled("run", dict(flat(row.run)))
    yield titled("as it was built", dict(flat(row.resolved)))
    if row.scored is not None:
        yield titled("scored by", row.scored.model_dump())
    kernel = {} if row.kernel is None else {"kernel": row.kernel}
    yield titled("metrics", {**kernel, **row.metrics})
    for name, points in row.curves.items():
        yield f"{printable(name)}\n{_indented(plot(points, braille=braille))}"
    yield titled("provenance", dict(flat(row.provenance)))
    if row.log_tail:
        yield f"the end of its log\n{_indented(printable(row.log_tail))}"


def titled(heading: str, values: Mapping[str, object]) -> str:
    """A heading and under it a line for each value; nothing if there are none."""
    if not values:
        return ""
    width = max(map(len, values))
    lines = (f"{printable(key):{width}}  {_text(value)}" for key, value in values.items())
    return f"{heading}\n{_indented(chr(10).join(lines))}"


def flat(data: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, object]]:
    """Nested data by dotted keys; what is None or empty is left out."""
    for key, value in data.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{prefix}{key}.")
        elif value is not None and value != []:
            yield f"{prefix}{key}", value


def _text(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    return one_line(str(value))


def _indented(text: str) -> str:
    return "\n".join(f"  {line}".rstrip() for line in text.splitlines())
