"""What a study asked for and what came of it: cells done, and the reasons of those that are not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pandas as pd

from bench.records.expected import MISSING
from bench.records.markdown import count
from bench.records.summary import lines_of

N_REASONS = 200  # listed; all are in `bench table --format csv`
CELL = ["architecture", "task"]


@dataclass(frozen=True)
class Covered:
    """The runs of one architecture on one task."""

    text: str  # `24` or `20 of 24: 3 oom, 1 missing`; empty: none was asked for
    whole: bool


@dataclass(frozen=True)
class Coverage:
    """A line for each architecture, a column for each task."""

    tasks: list[str]
    lines: list[tuple[str, list[Covered]]]
    sentence: str  # what was varied
    reasons: list[dict[str, Any]]
    n_more_reasons: int


def coverage(frame: pd.DataFrame, n_architectures: int) -> Coverage:
    """How many runs ended well, by architecture and task.

    Of studies side by side an architecture counts once, though it has several labels.
    """
    counts = frame.groupby([*CELL, "status"], sort=False).size()
    by_cell: dict[tuple[str, str], dict[str, int]] = {}
    for (architecture, task, status), n in zip(counts.index, counts.tolist(), strict=True):
        by_cell.setdefault((architecture, task), {})[status] = n
    architectures, tasks = (frame[name].unique().tolist() for name in CELL)
    reasons = _reasons(frame)
    return Coverage(
        tasks=tasks,
        lines=[
            (one, [_covered(by_cell.get((one, task), {})) for task in tasks])
            for one in architectures
        ],
        sentence=_sentence(frame, n_architectures),
        reasons=reasons[:N_REASONS],
        n_more_reasons=max(0, len(reasons) - N_REASONS),
    )


def _covered(counts: dict[str, int]) -> Covered:
    n_runs, n_ok = sum(counts.values()), counts.get("ok", 0)
    if not n_runs:
        return Covered("", True)
    if n_ok == n_runs:
        return Covered(count(n_runs), True)
    order = sorted((status == MISSING, status) for status in counts if status != "ok")
    lost = ", ".join(f"{count(counts[status])} {status}" for _, status in order)
    return Covered(f"{count(n_ok)} of {count(n_runs)}: {lost}", False)


def _sentence(frame: pd.DataFrame, n_architectures: int) -> str:
    """`7 architectures on 2 tasks at lengths 16, 64 and 256, 3 seeds`."""
    if frame.empty:
        return "The study asks for no runs."
    lengths = [count(length) for length in sorted(frame["length"].dropna().unique())]
    told = f"lengths {', '.join(lengths)}" if len(lengths) > 1 else f"length {lengths[0]}"
    parts = [
        f"{_many(n_architectures, 'architecture')} on "
        f"{_many(frame['task'].nunique(), 'task')} at {told}"
    ]
    trained = frame[frame["purpose"] == "train"]
    if len(trained):
        parts.append(_many(trained["seed"].nunique(), "seed"))
        parts.append(_many(trained["learning_rate"].nunique(), "learning rate"))
    return f"{', '.join(parts)}."


def _many(n: int, what: str) -> str:
    return f"{count(n)} {what}{'' if n == 1 else 's'}"


def _reasons(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Runs without an answer, those of one cell and outcome as one."""
    bad = frame[frame["status"] != "ok"].assign(reason=lambda rows: rows["reason"].fillna(""))
    keys = ["status", "architecture", "task", "length", "purpose", "reason"]
    counts = bad.groupby(keys, sort=False, dropna=False).size().reset_index(name="n")
    return lines_of(counts.sort_values("status", kind="stable"))
