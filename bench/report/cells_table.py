"""The table of all cells on the page: what is read, and what it is sorted by."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from bench.records.markdown import bytes_text, count, finite, with_interval
from bench.records.summary import lines_of, problems_of
from bench.report.statistics import kernel_class

COLUMNS = (
    ("task", False),
    ("length", True),
    ("architecture", False),
    ("study", False),
    ("rank", True),
    ("test score", True),
    ("seeds", True),
    ("train tokens/s", True),
    ("infer tokens/s", True),
    ("peak MiB", True),
    ("state bytes", True),
    ("parameters", True),
    ("settings", True),
    ("kernel", False),
    ("precision", False),
    ("hardware", False),
    ("problems", False),
)
SENTENCE_COLUMNS = ("settings", "kernel", "precision", "hardware")


@dataclass(frozen=True)
class Cell:
    """One cell of the table: what is read, and what it is sorted by."""

    text: str
    key: float | str = ""


@dataclass(frozen=True)
class Table:
    """Columns by name and whether they are numbers; lines by the label that the legend has."""

    columns: list[tuple[str, bool]]
    lines: list[tuple[str, list[Cell]]]
    alike: list[str]  # what is the same in all cells, in place of a column


def table(cells: pd.DataFrame, names: Mapping[str, tuple[str, str]]) -> Table:
    """All cells with a rank; `names` are the architecture and the study of each label."""
    labelled = lines_of(cells)
    lines = [_line(cell, *names[cell["architecture"]]) for cell in labelled]
    kept, alike = _worth_a_column(lines)
    return Table(
        columns=[COLUMNS[index] for index in kept],
        lines=[
            (cell["architecture"], [line[index] for index in kept])
            for cell, line in zip(labelled, lines, strict=True)
        ],
        alike=[
            f"{COLUMNS[index][0]} {next(line[index].text for line in lines if line[index].text)}"
            for index in alike
        ],
    )


def _line(cell: dict[str, Any], architecture: str, study: str) -> list[Cell]:
    reference = " †" if kernel_class(cell["kernel"]) == "reference" else ""
    score = with_interval(cell["score"], cell["score_low"], cell["score_high"])
    seeds = f"{cell['n_seeds']}/{cell['n_wanted']}" if cell["n_wanted"] else ""
    kernel = cell["kernel"] if isinstance(cell["kernel"], str) else cell["train_kernel"]
    precision = cell["precision"] if isinstance(cell["precision"], str) else cell["train_precision"]
    speeds = [
        _numeric(cell[name], f"{count(cell[name], 3)}{reference}")
        for name in ("train_tokens_per_s", "infer_tokens_per_s")
    ]
    return [
        Cell(cell["task"], cell["task"]),
        _numeric(cell["length"], count(cell["length"])),
        Cell(architecture, architecture),
        _worded(study),
        _numeric(cell["rank"], count(cell["rank"])),
        _numeric(cell["score"], score),
        _numeric(cell["n_seeds"], seeds),
        *speeds,
        _numeric(cell["peak_bytes"], bytes_text(cell["peak_bytes"])),
        _numeric(cell["state_bytes"], count(cell["state_bytes"])),
        _numeric(cell["parameters"], count(cell["parameters"])),
        _numeric(cell["n_settings"], str(cell["n_settings"] or "")),
        _worded(kernel),
        _worded(precision),
        _worded(cell["hardware"]),
        _worded(problems_of(cell)),
    ]


def _worth_a_column(lines: list[list[Cell]]) -> tuple[list[int], list[int]]:
    """Columns to show, and those to put in a sentence because all cells are alike."""
    kept, alike = [], []
    for index, (name, _) in enumerate(COLUMNS):
        texts = {line[index].text for line in lines}
        if name == "hardware":  # only what was measured has one
            texts.discard("")
        if len(texts) == 1 and texts != {""} and name in SENTENCE_COLUMNS:
            alike.append(index)
        elif texts - {""}:
            kept.append(index)
    return kept, alike


def _numeric(value: object, text: str) -> Cell:
    known = finite(value)
    return Cell("") if known is None else Cell(text, known)


def _worded(value: object) -> Cell:
    return Cell(value, value) if isinstance(value, str) else Cell("")
