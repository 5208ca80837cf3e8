"""Numbers and tables as aligned Markdown. What is missing is an empty cell, never 0."""

from __future__ import annotations

import math
import numbers
import re
import unicodedata
from collections.abc import Collection, Sequence

MIB = 2**20
N_DIGITS = 4  # of a score
MIN_RULE = 2  # signs of the rule below a heading: `-:`; a colon alone would make no table of it
PLAIN = re.compile(r"[A-Za-z0-9 .,;:%()+/-]*")  # means nothing anywhere in it
MEANINGFUL = re.compile(r"[\\|<`*$]|~(?=~)|&(?=#?\w+;)|(?<![^\W_])_|_(?![^\W_])")
LINK = re.compile(r"\][(\[:]")
TURNING = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
"""Signs that turn the direction of all that follows, columns and all."""


def table(headings: Sequence[str], lines: Sequence[Sequence[str]], right: Collection[int]) -> str:
    """A Markdown table; the columns numbered in `right` are flushed right, empty ones left out."""
    kept = [i for i in range(len(headings)) if any(line[i] for line in lines)]
    widths = {
        i: max(MIN_RULE, *(_width(text) for text in [headings[i], *(line[i] for line in lines)]))
        for i in kept
    }
    rule = [f"{'-' * (widths[i] - 1)}{':' if i in right else '-'}" for i in kept]
    rows = [[_pad(line[i], widths[i], i in right) for i in kept] for line in [headings, *lines]]
    return "".join(f"| {' | '.join(row)} |\n" for row in [rows[0], rule, *rows[1:]])


def escape(text: str) -> str:
    """Text that stays text inside a Markdown table, in a terminal too.

    Only what would mean something is escaped, so that the source can be read: a bracket where a
    link might follow, an underscore at the end of a word.
    """
    if PLAIN.fullmatch(text):
        return text.strip()
    text = "".join(" " if _breaks(sign) else "" if sign in TURNING else sign for sign in text)
    text = MEANINGFUL.sub(r"\\\g<0>", text.strip())
    return text.replace("[", "\\[") if LINK.search(text) else text


def _breaks(sign: str) -> bool:
    """Whether a sign ends a line or steers a terminal."""
    return unicodedata.category(sign) in ("Cc", "Zl", "Zp")


def number(value: object, n_digits: int = N_DIGITS) -> str:
    """A score: `0.9130`, `12.35`, `1.2e-05`."""
    found = finite(value)
    if found is None:
        return ""
    if found == 0:
        return "0"
    size = math.floor(math.log10(abs(found)))
    if size < -4 or size > 6:
        return f"{found:.{n_digits - 2}e}"
    return f"{found:.{max(0, n_digits - 1 - max(size, -1))}f}"


def with_interval(value: object, low: object, high: object) -> str:
    """`0.913 ± 0.012`: the mean and half its interval, as precise as the interval allows."""
    mean, start, end = finite(value), finite(low), finite(high)
    if mean is None or start is None or end is None:
        return number(value)
    half = (end - start) / 2
    if half == 0 or abs(mean) >= 1e6 or 0 < abs(mean) < 1e-4:
        return f"{number(mean)} ± {number(half, 2)}"
    n_decimals = min(6, max(0, 1 - math.floor(math.log10(half))))
    return f"{mean:.{n_decimals}f} ± {half:.{n_decimals}f}"


def between(text: str, low: str, high: str) -> str:
    """`0.913 [0.901, 0.925]`."""
    return f"{text} [{low}, {high}]" if low and high else text


def count(value: object, n_digits: int | None = None) -> str:
    """`12,345`; with three digits `12,300`."""
    found = finite(value)
    if found is None:
        return ""
    if n_digits is not None and found != 0:
        size = math.floor(math.log10(abs(found)))
        if size < n_digits - 1:
            return f"{found:.{n_digits - 1 - size}f}"
        found = round(found, n_digits - 1 - size)
    return f"{found:,.0f}"


def bytes_text(value: object) -> str:
    """Bytes as MiB with three digits."""
    found = finite(value)
    return "" if found is None else count(found / MIB, 3)


def finite(value: object) -> float | None:
    """A number, or None where a table has nothing."""
    if not isinstance(value, numbers.Real):
        return None
    return float(value) if math.isfinite(value) else None


def _pad(text: str, width: int, right: bool) -> str:
    space = " " * (width - _width(text))
    return space + text if right else text + space


def _width(text: str) -> int:
    """Columns of a terminal."""
    return sum(
        0 if unicodedata.combining(sign) else 2 if unicodedata.east_asian_width(sign) in "WF" else 1
        for sign in text
    )
