"""What the charts draw, as plain data: points of the cells, marks of the failures."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import pandas as pd

from bench.records.markdown import MIB, bytes_text, count, finite, number, with_interval
from bench.records.summary import lines_of
from bench.report.statistics import kernel_class

Point = dict[str, Any]
MARK_STEP_PX = 13
MAX_CHANCE_GAP = 2.0
"""How far the chance level may lie from the scores, in spans of these, and still be drawn."""


@dataclass(frozen=True)
class Quantity:
    """Something drawn against length."""

    column: str
    title: str
    note: str
    logarithmic: bool
    unit_size: float = 1.0  # values are divided by it


SCORE = Quantity("score", "Score", "mean over seeds, band: 95% interval; ×: no score", False)
_MARKS = "dashed: plain PyTorch kernel; ×: no measurement"
TRAIN_SPEED = Quantity("train_tokens_per_s", "Training speed", f"tokens/s; {_MARKS}", True)
INFER_SPEED = Quantity("infer_tokens_per_s", "Inference speed", f"tokens/s; {_MARKS}", True)
MEMORY = Quantity("peak_bytes", "Peak memory", f"MiB; {_MARKS}", True, MIB)
QUANTITIES = (SCORE, TRAIN_SPEED, INFER_SPEED, MEMORY)


def points(cells: pd.DataFrame, quantity: Quantity) -> list[Point]:
    """The cells of one task that have a value."""
    ends = (f"{quantity.column}{end}" for end in ("", "_low", "_high"))
    wanted = ["architecture", "length", "kernel", "n_seeds", "n_wanted", *ends]
    needed = [name for name in wanted if name in cells]  # a line with all of them takes long
    return [
        {
            "architecture": cell["architecture"],
            "length": cell["length"],
            "value": float(cell[quantity.column]) / quantity.unit_size,
            "low": finite(cell.get(f"{quantity.column}_low")),
            "high": finite(cell.get(f"{quantity.column}_high")),
            "text": text_of(cell, quantity),
            "kernel": cell["kernel"] if isinstance(cell["kernel"], str) else "unknown",
            "reference": quantity is not SCORE and kernel_class(cell["kernel"]) == "reference",
            "seeds": f"{cell['n_seeds']} of {cell['n_wanted']}",
        }
        for cell in lines_of(cells.loc[cells[quantity.column].notna(), needed])
        if not quantity.logarithmic or cell[quantity.column] > 0
    ]


def failures(cells: pd.DataFrame, quantity: Quantity) -> list[Point]:
    """The cells without a value that somebody asked for, stacked where they share a length."""
    column = "problems" if quantity is SCORE else "measure_problems"
    absent = cells[cells[quantity.column].isna() & (cells[column] != "")]
    return [
        {
            "architecture": cell["architecture"],
            "length": cell["length"],
            "text": cell[column],
            "slot": MARK_STEP_PX * (index + 0.5),
        }
        for _, group in absent.groupby("length", sort=True)
        for index, cell in enumerate(lines_of(group))
    ]


def chance(cells: pd.DataFrame, lengths: Collection[int]) -> list[Point]:
    """The chance level at those of the lengths where it is known."""
    known = cells[cells["chance"].notna() & cells["length"].isin(lengths)]
    known = known.drop_duplicates("length").sort_values("length")
    return [{"length": cell["length"], "value": float(cell["chance"])} for cell in lines_of(known)]


def far_from(level: list[Point], found: list[Point]) -> bool:
    """Whether a chart that shows the chance level too would squeeze what it is about."""
    values = [point["value"] for point in found]
    span = max(values) - min(values)
    gap = min(abs(at["value"] - value) for at in level for value in values) if level else 0.0
    return len(set(values)) > 1 and gap > MAX_CHANCE_GAP * span


def text_of(cell: dict[str, Any], quantity: Quantity) -> str:
    """The value of a cell with its unit, for people."""
    if quantity is SCORE:
        if pd.isna(cell["score_low"]):
            return f"{number(cell['score'])} (one seed: no interval)"
        return with_interval(cell["score"], cell["score_low"], cell["score_high"])
    if quantity is MEMORY:
        return f"{bytes_text(cell['peak_bytes'])} MiB"
    return f"{count(cell[quantity.column], 3)} tokens/s"
