"""`report.html`: the whole study on one page that opens from disk and loads nothing else."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd

from bench.records import files
from bench.records.difference import check_alike, not_alike
from bench.records.expected import complete
from bench.records.markdown import bytes_text, count, finite, with_interval
from bench.records.store import Store
from bench.records.summary import lines_of, problems_of, summarise
from bench.records.table import tally
from bench.report import curves, statistics
from bench.report.origin import origin
from bench.report.palette import looks
from bench.report.sections import leaders, section
from bench.study import Study

FOLDER = Path(__file__).parent
N_REASONS = 200  # listed; all are in `bench table --format csv`
COLUMNS = (
    ("task", False),
    ("length", True),
    ("architecture", False),
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
    ("problems", False),
)
SENTENCE_COLUMNS = ("settings", "kernel", "precision")


@dataclass(frozen=True)
class Cell:
    """One cell of the table: what is read, and what it is sorted by."""

    text: str
    key: float | str = ""


def write(study: Study, store: Store, path: Path, *, across: bool = False) -> Path:
    """Write the page; equal rows give equal bytes."""
    files.write_atomically(path, render(study, store, across=across).encode())
    return path


def render(study: Study, store: Store, *, across: bool = False) -> str:
    """The page as HTML.

    Raises:
        UserError: speeds of different machines, precisions or world sizes would be side by side,
            and `across` does not ask for it.
    """
    frame = complete(study, store)
    cells = statistics.with_ranks(summarise(frame))
    check_alike(cells, across)
    drawn = looks(list(dict.fromkeys(cells["architecture"])))
    by_task = {str(task): part for task, part in cells.groupby("task", sort=False)}
    learned = curves.by_task(frame, cells, store)
    sections = [
        section(task, part, frame[frame["task"] == task], learned.get(task), drawn)
        for task, part in by_task.items()
    ]
    drawings = [
        {"spec": figure.spec, "datasets": figure.datasets}
        for one in sections
        for figure in one.figures
    ]
    lines = [_line(cell) for cell in lines_of(cells)]
    kept, alike = _worth_a_column(lines)
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(FOLDER),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("page.html.j2").render(
        title=study.title,
        question=study.question,
        tally=_tally(frame, cells),
        leaders={task: leaders(part) for task, part in by_task.items()},
        reasons=_reasons(frame),
        looks=drawn,
        sections=sections,
        overall=statistics.overall(cells) if (cells["n_wanted"] > 0).any() else [],
        columns=[COLUMNS[index] for index in kept],
        alike=[f"{COLUMNS[index][0]} {lines[0][index].text}" for index in alike],
        lines=[(line[2].text, [line[index] for index in kept]) for line in lines],
        origin=origin(frame),
        data=embedded(drawings),
        library=_library(),
        script=(FOLDER / "page.js").read_text(encoding="utf-8"),
        style=(FOLDER / "page.css").read_text(encoding="utf-8"),
    )


def _tally(frame: pd.DataFrame, cells: pd.DataFrame) -> str:
    """How many runs ended how, and a warning if their speeds do not belong side by side."""
    mixed = not_alike(cells)
    warning = f" · warning: speeds and memory are of different {mixed}" if mixed else ""
    return f"{tally(frame).strip()}{warning}"


def embedded(data: object) -> str:
    """JSON that no string in it can break out of a script element."""
    text = json.dumps(data, separators=(",", ":"), allow_nan=False)
    for sign in "<>&":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return text


@cache
def _library() -> str:
    """Vega, Vega-Lite and Vega-Embed, from the package that also draws the images."""
    import vl_convert

    snippet: Any = None  # that of vl_convert itself, which its stub does not know
    return str(vl_convert.javascript_bundle(snippet)).replace("</script", "<\\/script")


def _reasons(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Runs without an answer, those of one cell and outcome as one."""
    bad = frame[frame["status"] != "ok"].assign(reason=lambda rows: rows["reason"].fillna(""))
    keys = ["status", "architecture", "task", "length", "purpose", "reason"]
    counts = bad.groupby(keys, sort=False, dropna=False).size().reset_index(name="n")
    return lines_of(counts.sort_values("status", kind="stable").head(N_REASONS))


def _line(cell: dict[str, Any]) -> list[Cell]:
    reference = " †" if statistics.kernel_class(cell["kernel"]) == "reference" else ""
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
        Cell(cell["architecture"], cell["architecture"]),
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
        _worded(problems_of(cell)),
    ]


def _worth_a_column(lines: list[list[Cell]]) -> tuple[list[int], list[int]]:
    """Columns to show, and those to put in a sentence because all cells are alike."""
    kept, alike = [], []
    for index, (name, _) in enumerate(COLUMNS):
        texts = {line[index].text for line in lines}
        if len(texts) == 1 and name in SENTENCE_COLUMNS:
            alike.append(index)
        elif texts != {""}:
            kept.append(index)
    return kept, alike


def _numeric(value: object, text: str) -> Cell:
    known = finite(value)
    return Cell("") if known is None else Cell(text, known)


def _worded(value: object) -> Cell:
    return Cell(value, value) if isinstance(value, str) else Cell("")
