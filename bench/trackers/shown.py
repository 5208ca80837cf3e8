"""What a tracker shows of a row: its name, its configuration, curves by step, final numbers."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from bench.errors import UserError
from bench.records.row import Row
from bench.spec import Run, parse_run

MAX_NAME = 128  # characters; Weights & Biases takes no more

BY_LENGTH = "_by_length"
"""Ends the name of a curve over lengths, which has no place among steps: its values are metrics."""

Curves: TypeAlias = Mapping[str, Sequence[tuple[float, float | None]]]


def name_of(row: Row) -> str:
    """`lstm parity length 64 seed 0`."""
    return str(_run(row))[:MAX_NAME]


def purpose_of(row: Row) -> str:
    """`train` or `measure`."""
    return _run(row).purpose


def configuration(row: Row) -> dict[str, Any]:
    """What was asked for, what it was resolved to, and where it ran."""
    return {
        "id": row.id,
        "study": row.study,
        "run": row.run,
        "resolved": row.resolved,
        "kernel": row.kernel,
        "provenance": row.provenance,
    }


def steps(curves: Curves) -> list[tuple[int, dict[str, float]]]:
    """Curves as one list of steps, ascending; what is missing at a step is left out."""
    found: dict[int, dict[str, float]] = defaultdict(dict)
    for curve, points in curves.items():
        if curve.endswith(BY_LENGTH):
            continue
        for step, value in points:
            if value is not None and math.isfinite(value):
                found[int(step)][curve] = value
    return sorted(found.items())


def final(row: Row) -> dict[str, float | int | str]:
    """Status, reason and every metric that has a value."""
    metrics = {name: value for name, value in row.metrics.items() if value is not None}
    told: dict[str, float | int | str] = {"status": row.status}
    if row.reason:
        told["reason"] = row.reason
    if row.log_tail:
        told["log_tail"] = row.log_tail
    return {**told, **metrics}


def _run(row: Row) -> Run:
    try:
        return parse_run(row.run, f"row {row.id}: run")
    except UserError as error:
        raise UserError(f"{error}; this row is of another seqbench; move it away") from None
