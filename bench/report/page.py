"""`report.html`: studies on one page that opens from disk and loads nothing else."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import jinja2

from bench.records import files
from bench.records.difference import check_alike, not_alike
from bench.records.store import Store
from bench.records.summary import summarise
from bench.records.table import tally
from bench.report import (
    answers,
    cells_table,
    claims,
    crossings,
    published,
    reach,
    statistics,
    stream_charts,
)
from bench.report.coverage import coverage
from bench.report.origin import origin
from bench.report.sections import Section, leaders, section
from bench.report.side_by_side import Joined, joined
from bench.study import Study

FOLDER = Path(__file__).parent


def write(study: Study, store: Store, path: Path, *, across: bool = False) -> Path:
    """Write the page of one study; equal rows give equal bytes."""
    files.write_atomically(path, render(study, store, across=across).encode())
    return path


def render(study: Study, store: Store, *, across: bool = False) -> str:
    """The page of one study as HTML, as `render_joined`."""
    return render_joined(joined([(study, store)]), across=across)


def render_joined(studies: Joined, *, across: bool = False) -> str:
    """The page of one study, or of several side by side, as HTML.

    Raises:
        UserError: speeds of different machines, precisions or world sizes would be side by side,
            and `across` does not ask for it.
    """
    frame = studies.frame
    cells = statistics.with_ranks(summarise(frame))
    check_alike(cells, across)
    drawn = studies.looks()
    by_task = {str(task): part for task, part in cells.groupby("task", sort=False)}
    runs = dict(iter(frame.groupby("task", sort=False)))
    learned = studies.curves(cells)
    trainings = reach.told_apart(run for part in studies.parts for run in part.study.runs)
    sections = [
        section(task, part, runs[task], learned.get(task), drawn, trainings)
        for task, part in by_task.items()
    ]
    return (
        _environment()
        .get_template("page.html.j2")
        .render(
            title=studies.title,
            question=studies.question,
            tallies=[_named(part.name, tally(part.frame).strip()) for part in studies.parts],
            mixed=not_alike(cells),
            coverage=coverage(
                frame, len({architecture for architecture, _ in studies.shown.values()})
            ),
            leaders={task: leaders(part) for task, part in by_task.items()},
            verdicts=list(answers.verdicts(studies)),
            claims_note=claims.LEGEND,
            reproductions=list(answers.reproductions(studies)),
            looks=drawn,
            sections=sections,
            reach_note=reach.LEGEND,
            stream_columns=stream_charts.COLUMNS,
            crossings=crossings.tables(frame),
            reported=answers.reported(studies),
            reported_title=published.FLAG.capitalize(),
            reported_note=published.NOTE,
            overall=statistics.overall(cells) if (cells["n_wanted"] > 0).any() else [],
            table=cells_table.table(cells, _names(studies)),
            origin=[
                _named(part.name, line) for part in studies.parts for line in origin(part.frame)
            ],
            data=embedded(_drawings(sections)),
            library=_library(),
            script=(FOLDER / "page.js").read_text(encoding="utf-8"),
            style=(FOLDER / "page.css").read_text(encoding="utf-8"),
        )
    )


def _environment() -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(FOLDER),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _named(study: str, text: str) -> str:
    """A line about one of several studies."""
    return f"{study}: {text}" if study else text


def _names(studies: Joined) -> dict[str, tuple[str, str]]:
    """Architecture and study of each label."""
    return {
        label: (architecture, studies.parts[index].name)
        for label, (architecture, index) in studies.shown.items()
    }


def _drawings(sections: Sequence[Section]) -> dict[str, list[Any]]:
    """The charts in the order of the page, and the few specifications that they share."""
    specs: dict[str, int] = {}
    drawings = [
        {
            "spec": specs.setdefault(json.dumps(figure.spec), len(specs)),
            "datasets": figure.datasets,
        }
        for one in sections
        for figure in one.figures
    ]
    return {"specs": [json.loads(spec) for spec in specs], "drawings": drawings}


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
