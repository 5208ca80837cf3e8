"""The leaderboard of a study: to read as Markdown, HTML or LaTeX, to compute with as CSV.

A pure function of the study and its rows: no time and no path is in it, so a copy in version
control can be checked. What papers print stands in a section of its own in what is read, and in no
CSV file: those hold measured cells alone, and `bench published --study` gives the rest as CSV.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Collection
from pathlib import Path
from typing import Literal, TypeAlias, get_args

import pandas as pd

from bench.errors import unknown
from bench.records import files, shown
from bench.records.difference import check_alike
from bench.records.expected import complete
from bench.records.seeds import scored_runs
from bench.records.store import Store
from bench.records.summary import CELL, summarise
from bench.report import board, document, published, statistics
from bench.report.aggregate import samples
from bench.report.paired import pairs
from bench.study import Study

Format: TypeAlias = Literal["md", "csv", "html", "latex"]
FORMATS: tuple[Format, ...] = get_args(Format)
USUAL: tuple[Format, ...] = ("md", "csv")
CSV_FILE = "leaderboard.csv"
OVERALL_FILE = "leaderboard_overall.csv"
FILES: dict[Format, tuple[str, ...]] = {
    "md": ("LEADERBOARD.md",),
    "csv": (CSV_FILE, OVERALL_FILE),
    "html": ("leaderboard.html",),
    "latex": ("leaderboard.tex",),
}
WRITERS = {
    "md": document.as_markdown,
    "html": document.as_html,
    "latex": document.as_latex,
}


def render(
    study: Study, store: Store, formats: Collection[Format] = USUAL, *, across: bool = False
) -> dict[str, bytes]:
    """The content of the files of these formats, by name.

    Raises:
        UserError: an unknown format; or speeds of different machines, precisions or world sizes
            would be side by side, and `across` does not ask for it.
    """
    for name in formats:
        if name not in FORMATS:
            raise unknown("format", name, FORMATS)
    frame = complete(study, store)
    cells = statistics.with_ranks(summarise(frame))
    check_alike(cells, across)
    cells = cells.merge(board.score_rows(scored_runs(frame, cells)), on=CELL, how="left")
    text = _csv(cells)
    trained = samples(frame, cells)
    overall = statistics.overall(cells, trained) if trained else []
    found = {CSV_FILE: text, OVERALL_FILE: _overall_csv(overall)} if "csv" in formats else {}
    written = [name for name in FORMATS if name in formats and name != "csv"]
    if written:
        parts = list(
            board.parts(
                board.Board(
                    study=study,
                    frame=frame,
                    cells=cells.assign(csv_line=_line_numbers(text)),
                    overall=overall,
                    pairs=pairs(trained),
                    reported=published.beside(study),
                    csv_file=CSV_FILE,
                )
            )
        )
        found |= {FILES[name][0]: WRITERS[name](parts) for name in written}
    names = [name for format_ in FORMATS for name in FILES[format_] if name in found]
    return {name: found[name].encode() for name in names}


def write(
    study: Study, store: Store, formats: Collection[Format] = USUAL, *, across: bool = False
) -> list[Path]:
    """Write the files of these formats into the study's folder."""
    content = render(study, store, formats, across=across)
    for name, data in content.items():
        files.write_atomically(store.folder / name, data)
    return [store.folder / name for name in content]


def check(
    study: Study, store: Store, formats: Collection[Format] = (), *, across: bool = False
) -> list[Path]:
    """The files that are missing or do not say what the rows say now.

    Without formats those of Markdown and CSV, and of the others those that are there.
    """
    wanted = formats or [
        name
        for name in FORMATS
        if name in USUAL or all((store.folder / file).exists() for file in FILES[name])
    ]
    content = render(study, store, wanted, across=across)
    paths = {store.folder / name: data for name, data in content.items()}
    return [path for path, data in paths.items() if not path.is_file() or path.read_bytes() != data]


def _csv(cells: pd.DataFrame) -> str:
    """One line per cell. Ten digits, so that the last bit of a mean is no difference."""
    empty = {name for name in shown.COLUMNS if cells[name].isna().all()}
    first = ["task", "length", "rank", "architecture"]
    others = (name for name in cells.columns if name not in first and name not in empty)
    ordered = cells[[*first, *others]]
    return ordered.to_csv(index=False, lineterminator="\n", float_format="%.10g")


def _overall_csv(overall: list[statistics.Overall]) -> str:
    records = [
        {
            "architecture": one.architecture,
            "mean_rank": one.mean_rank,
            "n_first": one.n_first,
            "n_cells": one.n_cells,
            "normalised_score": one.score.value if one.score else None,
            "normalised_score_low": one.score.low if one.score else None,
            "normalised_score_high": one.score.high if one.score else None,
            "n_runs": one.score.n_runs if one.score else None,
            "mean_rank_refused": one.refused,
            "normalised_score_refused": one.score_refused,
        }
        for one in overall
    ]
    table = pd.DataFrame.from_records(records).astype({"n_runs": "Int64"} if records else {})
    return table.to_csv(index=False, lineterminator="\n", float_format="%.10g")


def _line_numbers(text: str) -> list[int]:
    """The line of the text at which each record begins, the heading's left out: names have any."""
    reader = csv.reader(io.StringIO(text))
    ends = [reader.line_num for _ in reader]
    return [end + 1 for end in ends[:-1]]
