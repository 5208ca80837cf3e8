"""The tidy table: one line per row, in columns of a fixed order. What is missing stays missing.

id, status, reason, purpose     the run, how it ended, whether it was to train or to measure
architecture, task              as tables call them; `_name`: as the catalogue does
length, seed                    tokens; the seed
setting, learning_rate          the hash of what was tuned, and the part of it that mostly is
metric, unit, higher_is_better, chance      what the score means
kernel, precision, accelerator, hardware, world_size    what it ran on
versions, git_commit            of the software; `-dirty` where files differed from the commit
then METRICS, always, and every other metric of `Row.metrics` that some row has, by name; among
them baseline and baseline_rule, the score of a trivial rule, where a row says it
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

import pandas as pd

from bench.errors import UserError
from bench.records.row import Row
from bench.spec import Run, parse_run

RUN_COLUMNS = (
    "purpose",
    "architecture",
    "architecture_name",
    "task",
    "task_name",
    "length",
    "seed",
    "setting",
    "learning_rate",
)
COLUMNS = (
    *("id", "status", "reason"),
    *RUN_COLUMNS,
    *("metric", "unit", "higher_is_better", "chance"),
    *("kernel", "precision", "accelerator", "hardware", "world_size"),
    *("versions", "git_commit"),
)
SPEEDS = ("train_tokens_per_s", "infer_tokens_per_s")
METRICS = (
    *("test_score", "val_score"),
    *(f"{speed}{end}" for speed in SPEEDS for end in ("", "_low", "_high")),
    *("peak_bytes", "parameters", "state_bytes", "tokens_per_batch"),
    *("noise_floor", "reference_ms"),
)
FLOATS = ("learning_rate", "chance")
FLAGS = ("higher_is_better",)
COUNTS = ("length", "seed", "world_size", "steps_done", "best_step", "rounds", "width")
NUMERIC = (*FLOATS, *FLAGS, *METRICS, "length", "seed", "world_size")
"""Columns that every tidy table has and that are no texts."""
MOST_INTEGER = 2.0**62  # that a column of integers is asked to hold
COUNT_ENDINGS = ("_bytes", "parameters")


def tidy(rows: Iterable[Row]) -> pd.DataFrame:
    """One line per row, sorted by id."""
    lines = [_line(row) for row in rows]
    lines.sort(key=lambda line: str(line["id"]))
    names = {name: None for line in lines for name in line}
    return normalise(pd.DataFrame.from_records(lines, columns=list(names) or list(COLUMNS)))


def join(first: pd.DataFrame, second: pd.DataFrame) -> pd.DataFrame:
    """The lines of both, as if they had been made together."""
    if second.empty:
        return first
    if first.empty:
        return second
    both = [frame.dropna(axis="columns", how="all").astype(object) for frame in (first, second)]
    return normalise(pd.concat(both).sort_values("id", kind="stable"))


def normalise(frame: pd.DataFrame) -> pd.DataFrame:
    """Columns in their order and of a type that their names decide, not the rows that happen to be.

    So that live and packed rows, and any mixture of them, give the same table.
    """
    given = set(frame.columns)
    others = [name for name in given.difference(COLUMNS, METRICS) if frame[name].notna().any()]
    order = [*COLUMNS, *METRICS, *sorted(others)]
    return pd.DataFrame(
        {name: _typed(name, frame[name] if name in given else None, len(frame)) for name in order}
    )


def run_values(run: Run) -> dict[str, Any]:
    """What a run's own columns hold."""
    return {
        "purpose": run.purpose,
        "architecture": str(run.architecture),
        "architecture_name": run.architecture.name,
        "task": str(run.task),
        "task_name": run.task.name,
        "length": run.length,
        "seed": run.seed,
        "setting": run.setting,
        "learning_rate": run.training.learning_rate if run.training.steps else None,
        "precision": run.training.precision,
        "world_size": run.resources.devices * run.resources.nodes,
    }


def _line(row: Row) -> dict[str, Any]:
    try:
        run = parse_run(row.run, f"row {row.id}: run")
    except UserError as error:
        raise UserError(f"{error}; this row is of another seqbench; move it away") from None
    scored = row.scored
    line: dict[str, Any] = {
        "id": row.id,
        "status": row.status,
        "reason": row.reason or None,
        **run_values(run),
        "metric": scored.metric if scored else None,
        "unit": scored.unit if scored else None,
        "higher_is_better": scored.higher_is_better if scored else None,
        "chance": scored.chance if scored else None,
        "kernel": row.kernel,
        **_origin(row.provenance, run),
    }
    if scored and scored.baseline is not None:
        line |= {"baseline": scored.baseline, "baseline_rule": scored.baseline_rule or None}
    for name, value in row.metrics.items():
        line.setdefault(name, value)
    return line


def _origin(provenance: dict[str, Any], run: Run) -> dict[str, str | None]:
    """The machine and the software, each as one text. A run that was killed has no device."""
    device, commit = provenance.get("device"), provenance.get("git_commit")
    hardware = device
    if device == "cpu":
        cores, threads = provenance.get("cores"), run.resources.threads
        hardware = f"{provenance.get('processor')}, {cores} cores, {threads} used"
    elif device is not None and (n_devices := run.resources.devices * run.resources.nodes) > 1:
        hardware = f"{n_devices} x {device}"
    given = provenance.get("versions")
    versions = {"python": provenance.get("python"), **(given if isinstance(given, dict) else {})}
    return {
        "accelerator": None if device is None else "cpu" if device == "cpu" else "cuda",
        "hardware": hardware,
        "versions": ", ".join(f"{name} {versions[name]}" for name in sorted(versions)),
        "git_commit": f"{commit}-dirty" if commit and provenance.get("git_dirty") else commit,
    }


def _typed(name: str, column: pd.Series[Any] | None, n_lines: int) -> pd.Series[Any]:
    if column is None:
        column = pd.Series([None] * n_lines, dtype=object)
    column = column.reset_index(drop=True)
    if name in FLAGS:
        return column.astype("boolean")
    if name in COLUMNS and name not in (*COUNTS, *FLOATS):
        return column.astype("str")
    try:
        # Of a column that tables compute with, a text is no value.
        errors: Literal["coerce", "raise"] = "coerce" if name in METRICS else "raise"
        numbers = pd.to_numeric(column, errors=errors).astype("Float64").astype("float64")
    except (TypeError, ValueError):
        return column.map(lambda value: None if pd.isna(value) else _plain(value)).astype("str")
    if name in COUNTS or name.endswith(COUNT_ENDINGS):
        whole = numbers.isna() | ((numbers % 1 == 0) & (numbers.abs() < MOST_INTEGER))
        return numbers.astype("Int64") if bool(whole.all()) else numbers
    return numbers


def _plain(value: object) -> str:
    return value if isinstance(value, str) else repr(float(str(value)))
