"""Two rows of one run: the same, or an error that shows in what they differ."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from bench.errors import UserError
from bench.records.row import Row

N_SHOWN = 4
N_SIGNS = 60  # of a value that is shown


def conflict(first: Row, where: str, second: Row, where_too: str) -> UserError:
    """Say that two rows of one id are not the same, and what differs."""
    changed = differences(first, second)
    shown = "; ".join(changed[:N_SHOWN])
    if (more := len(changed) - N_SHOWN) > 0:
        shown += f"; and {more} more"
    return UserError(
        f"{where} and {where_too} hold different rows of the same id {first.id}: {shown}"
    )


def differences(first: Row, second: Row) -> list[str]:
    """`metrics.test_score: 0.91 and 0.93` for every value that is not the same in both."""
    one, other = (dict(_flat(row.model_dump(mode="json"))) for row in (first, second))
    return [
        f"{key}: {_short(one.get(key))} and {_short(other.get(key))}"
        for key in sorted(one.keys() | other.keys())
        if one.get(key) != other.get(key)
    ]


def _flat(data: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, object]]:
    for key, value in data.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        elif value is not None:
            yield f"{prefix}{key}", value


def _short(value: object) -> str:
    text = "nothing" if value is None else json.dumps(value)
    return text if len(text) <= N_SIGNS else f"{text[: N_SIGNS - 3]}..."
