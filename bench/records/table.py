"""The table of a study: for the terminal one line per cell, for programs one line per run."""

from __future__ import annotations

import io
import json
from typing import Any, Literal, TypeAlias, get_args

import pandas as pd

from bench.errors import unknown
from bench.records.difference import check_alike, not_alike
from bench.records.expected import MISSING, complete, foreign, with_missing
from bench.records.markdown import bytes_text, count, escape, number, table, with_interval
from bench.records.shown import SHOWN
from bench.records.summary import lines_of, problems_of, summarise
from bench.records.tidy import tidy

__all__ = ["Format", "complete", "foreign", "render", "tidy", "with_missing"]

Format: TypeAlias = Literal["md", "csv", "json", "parquet"]
FORMATS: tuple[Format, ...] = get_args(Format)
HEADINGS = (
    *("length", "architecture", "score", "seeds", "chance"),
    *("train tokens/s", "infer tokens/s", "peak MiB", "parameters", "state bytes"),
    *(one.heading for one in SHOWN),
    *("kernel", "problems"),
)
RIGHT = (0, *range(3, len(HEADINGS) - 2))


def render(
    frame: pd.DataFrame,
    format: Format,  # noqa: A002 (what it is)
    *,
    across: bool = False,
) -> bytes:
    """The table as text in UTF-8, or as Parquet. Equal rows give equal bytes.

    md is for people: seeds are grouped and the setting is the one that val chose. The others are
    the whole tidy table.

    Raises:
        UserError: an unknown format; or md would put what was measured on different machines, in
            different precisions or world sizes side by side, and `across` does not ask for it.
    """
    if format == "md":
        return _markdown(frame, across).encode()
    if format == "csv":
        return frame.to_csv(index=False, lineterminator="\n").encode()
    if format == "json":
        plain = frame.astype(object).where(frame.notna(), None)
        lines = (json.dumps(line, allow_nan=False) for line in plain.to_dict("records"))
        return "[{}]\n".format(",\n ".join(lines)).encode()
    if format == "parquet":
        buffer = io.BytesIO()
        frame.to_parquet(buffer, index=False, compression="zstd")
        return buffer.getvalue()
    raise unknown("format", format, FORMATS)


def _markdown(frame: pd.DataFrame, across: bool) -> str:
    if frame.empty:
        return "no rows\n"
    parts = []
    summary = summarise(frame)
    check_alike(summary, across)
    for task, cells in summary.groupby("task", sort=False):
        lines = [_line(cell) for cell in lines_of(cells)]
        parts.append(f"{_title(str(task), cells)}\n\n{table(HEADINGS, lines, right=RIGHT)}")
    if mixed := not_alike(summary):
        parts.append(f"warning: speeds and memory are of different {escape(mixed)}\n")
    parts.append(tally(frame))
    return "\n".join(parts)


def _title(task: str, cells: pd.DataFrame) -> str:
    """`### parity: accuracy, higher is better`."""
    metric, higher = cells["metric"].iloc[0], cells["higher_is_better"].iloc[0]
    if pd.isna(metric):
        return f"### {escape(task)}"
    better = "" if pd.isna(higher) else f", {'higher' if higher else 'lower'} is better"
    return f"### {escape(task)}: {escape(str(metric))}{better}"


def _line(cell: dict[str, Any]) -> list[str]:
    return [
        count(cell["length"]),
        escape(str(cell["architecture"])),
        with_interval(cell["score"], cell["score_low"], cell["score_high"]),
        f"{cell['n_seeds']}/{cell['n_wanted']}" if cell["n_wanted"] else "",
        number(cell["chance"]),
        count(cell["train_tokens_per_s"], 3),
        count(cell["infer_tokens_per_s"], 3),
        bytes_text(cell["peak_bytes"]),
        count(cell["parameters"]),
        count(cell["state_bytes"]),
        *(escape(one.text(cell)) for one in SHOWN),
        escape(_first_text(cell["kernel"], cell["train_kernel"])),
        escape(problems_of(cell)),
    ]


def _first_text(*values: object) -> str:
    return next((value for value in values if isinstance(value, str)), "")


def tally(frame: pd.DataFrame) -> str:
    """`42 runs: 38 ok, 1 oom, 3 missing`."""
    counts = frame["status"].value_counts()
    order = sorted(counts.index, key=lambda status: (status != "ok", status == MISSING, status))
    parts = ", ".join(f"{counts[status]} {status}" for status in order)
    return f"{len(frame)} run{'' if len(frame) == 1 else 's'}: {parts}\n"
