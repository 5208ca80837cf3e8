"""Amounts of memory as people write them: 8GiB, 500 MB, 1.5e9."""

from __future__ import annotations

import re

from bench.errors import UserError, unknown

UNITS = {
    "bytes": 1,
    "B": 1,
    "kB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "TB": 10**12,
    "KiB": 2**10,
    "MiB": 2**20,
    "GiB": 2**30,
    "TiB": 2**40,
}
"""Bytes of each; capitals do not matter."""
_FORM = re.compile(r"\s*([0-9]+(?:\.[0-9]*)?(?:e[0-9]+)?)\s*([a-z]*)\s*", re.IGNORECASE)
MAX_BYTES = 2**62


def parse_size(text: str) -> int:
    """The bytes that a text stands for; without a unit it is bytes.

    Raises:
        UserError: no number, an unknown unit, less than a byte, or more than there can be.
    """
    found = _FORM.fullmatch(text)
    if found is None:
        raise UserError(
            f"no amount of memory {text!r}: give a number and a unit, as in 8GiB; "
            f"choices of unit: {', '.join(UNITS)}"
        )
    number, unit = found.groups()
    known = {name.lower(): size for name, size in UNITS.items()}
    if unit and unit.lower() not in known:
        raise unknown("unit of memory", unit, UNITS)
    amount = float(number) * known[unit.lower() or "b"]
    if not 1 <= amount <= MAX_BYTES:
        raise UserError(f"an amount of memory is 1 byte to {MAX_BYTES >> 40} TiB, not {text!r}")
    return int(amount)
