"""What tables show of the instruments beside speed and peak memory: columns, headings, texts.

Of streaming the figures at the longest position that was reached, under names of their own:
`stream_position`, `stream_us_p50`, `stream_state_bytes`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from bench.records.markdown import between, bytes_text, count, finite, number

Cell = Mapping[str, Any]
STAGES = {"init": "at first", "trained": "trained"}
AT_POSITIONS = {
    "stream_us_p50": "stream_us_p50_at_",
    "stream_state_bytes": "stream_state_bytes_at_",
}
"""Columns here, and how those of rows begin, which end in the position."""
AT_MOST = {"memory": "", "architecture": ""}
"""Ends of a search for the longest length behind which nothing fits; after others it may."""


def _megabytes(name: str) -> Callable[[Cell], str]:
    return lambda cell: bytes_text(cell[name])


def _share(name: str) -> Callable[[Cell], str]:
    def text(cell: Cell) -> str:
        found = finite(cell[name])
        return "" if found is None else f"{number(100 * found, 3)}%"

    return text


def _longest(name: str) -> Callable[[Cell], str]:
    def text(cell: Cell) -> str:
        found, ends = count(cell[name]), cell[f"{name}_ends"]
        return found if not found or ends in AT_MOST else f"≥ {found}"

    return text


def _word(value: object) -> str:
    return value if isinstance(value, str) else ""


def _method(cell: Cell) -> str:
    """How memory was measured, beside the columns here that say how much."""
    parts = (cell["activation_bytes"], cell["infer_peak_bytes"])
    return _word(cell["memory_method"]) if any(finite(part) is not None for part in parts) else ""


def _stream(cell: Cell) -> str:
    position, time = count(cell["stream_position"]), count(cell["stream_us_p50"], 3)
    return f"{time} after {position}" if time else ""


def _state(cell: Cell) -> str:
    """`flat, 1,024` or `growing, 81,920`."""
    parts = (_word(cell["stream_state_verdict"]), count(cell["stream_state_bytes"]))
    return ", ".join(filter(None, parts))


def _with_ends(name: str) -> Callable[[Cell], str]:
    def text(cell: Cell) -> str:
        ends = (count(cell[f"{name}_{end}"], 3) for end in ("low", "high"))
        return between(count(cell[name], 3), *ends)

    return text


def _reach(stage: str) -> Callable[[Cell], str]:
    """The decay time with its interval, or why there is none: flat, exploding."""
    decay, verdict = f"reach_input_{stage}_decay_tokens", f"reach_input_{stage}_verdict"

    def text(cell: Cell) -> str:
        return _with_ends(decay)(cell) or _word(cell[verdict])

    return text


@dataclass(frozen=True)
class Shown:
    """A column of a table, made of columns of rows."""

    heading: str
    columns: tuple[str, ...]  # the first one is the number, if it has one
    text: Callable[[Cell], str]


SHOWN = (
    Shown("activations MiB", ("activation_bytes",), _megabytes("activation_bytes")),
    Shown("infer peak MiB", ("infer_peak_bytes",), _megabytes("infer_peak_bytes")),
    Shown("memory by", ("memory_method",), _method),
    *(
        Shown(f"longest to {what}", (name, f"{name}_ends"), _longest(name))
        for what, name in (("train", "longest_train_length"), ("infer", "longest_infer_length"))
    ),
    Shown("µs of a token", ("stream_us_p50", "stream_position"), _stream),
    Shown("streamed state bytes", ("stream_state_bytes", "stream_state_verdict"), _state),
    *(
        Shown(
            f"gradient decay {when}, tokens",
            tuple(
                f"reach_input_{stage}_{end}"
                for end in ("decay_tokens", "decay_tokens_low", "decay_tokens_high", "verdict")
            ),
            _reach(stage),
        )
        for stage, when in STAGES.items()
    ),
    Shown("clipped steps", ("clipped_share",), _share("clipped_share")),
    Shown(
        "J/token",
        tuple(f"energy_train_joules_per_token{end}" for end in ("", "_low", "_high")),
        _with_ends("energy_train_joules_per_token"),
    ),
    Shown("train MFU", ("train_mfu",), _share("train_mfu")),
    Shown("infer MFU", ("infer_mfu",), _share("infer_mfu")),
)
COLUMNS = tuple(name for one in SHOWN for name in one.columns)
TEXTS = tuple(name for name in COLUMNS if name.endswith(("_ends", "_verdict", "_method")))


def present(frame: pd.DataFrame) -> list[str]:
    """The columns of a tidy table from which COLUMNS are made."""
    return [
        name
        for name in map(str, frame.columns)
        if name in COLUMNS or any(_position(name, start) for start in AT_POSITIONS.values())
    ]


def columns_of(rows: pd.DataFrame) -> pd.DataFrame:
    """COLUMNS of some rows, missing where these have nothing."""
    found: dict[str, Any] = {}
    for name, start in AT_POSITIONS.items():
        at = {_position(str(column), start): column for column in rows.columns}
        positions = sorted(position for position in at if position is not None)
        if positions:
            values = pd.DataFrame(
                {position: _numbers(rows[at[position]]) for position in positions}
            )
            found[name] = values.ffill(axis=1).iloc[:, -1]
            found["stream_position"] = values.notna().mul(positions).max(axis=1).replace(0, np.nan)
    columns = {name: found.get(name, rows.get(name)) for name in COLUMNS}
    made = pd.DataFrame(columns, index=rows.index).astype(dict.fromkeys(TEXTS, "object"))
    return made.assign(**{name: _numbers(made[name]) for name in COLUMNS if name not in TEXTS})


def _numbers(column: pd.Series[Any]) -> pd.Series[float]:
    """A column to compute with: a text in it is no value."""
    return pd.to_numeric(column, errors="coerce").astype("Float64").astype("float64")


def _position(name: str, start: str) -> int | None:
    match = re.fullmatch(rf"{start}(\d+)", name)
    return int(match[1]) if match else None
