"""What there is to know of each task: kind, length, metric, chance, baseline, and its data."""

from __future__ import annotations

import dataclasses

from bench.catalogue import make_task, task_class
from bench.errors import UserError
from bench.listing import descriptions
from bench.spec import Choice
from tasks.data.cache import find, status
from tasks.task import Task

HEADER = (
    "name",
    "kind",
    "length",
    "metric",
    "chance",
    "baseline",
    "data (here: cache, package, unchecked, no)",
    "licence",
)


def task_table() -> list[tuple[str, ...]]:
    """A header, and a row for every task at its defaults. Nothing is read but what is installed."""
    return [HEADER, *(_row(name) for name in descriptions("tasks"))]


def as_text(rows: list[tuple[str, ...]]) -> str:
    """The table in columns, a line each."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(f"{cell:{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )


def _row(name: str) -> tuple[str, ...]:
    try:
        task = make_task(Choice(name=name), default_length(name))
    except UserError as error:  # of another package's, or one that has to be told its file
        return (name, str(error), *[""] * (len(HEADER) - 2))
    return _described(name, task)


def default_length(name: str) -> int:
    """The length that a task has if none is given, in tokens."""
    for field in dataclasses.fields(task_class(name)):
        if field.name == "length" and isinstance(field.default, int):
            return field.default
    raise UserError(f"task {name} has no default length")


def _described(name: str, task: Task) -> tuple[str, ...]:
    data = ", ".join(f"{set_name}: {status(set_name)}" for set_name in task.data_sets)
    licences = "; ".join(find(set_name).licence for set_name in task.data_sets)
    return (name, task.kind, str(task.length), *_scored(task), data or "generated", licences)


def _scored(task: Task) -> tuple[str, str, str]:
    """The metric, its chance level and its baseline; of some data sets they depend on the data."""
    try:
        metric = task.metrics[0]
    except (ValueError, ImportError):
        return ("known once its data is here", "", "")
    baseline = "" if metric.baseline is None else f"{metric.baseline:.4g} ({metric.baseline_rule})"
    direction = "higher" if metric.higher_is_better else "lower"
    return (f"{metric.name} ({direction} is better)", f"{metric.chance:.4g}", baseline)
