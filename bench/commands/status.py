"""`bench status` and `bench cancel`: how far a study is, and taking its jobs out of the queue."""

from __future__ import annotations

import enum
import json
import re
import time
from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bench.commands.shared import StudyArgument, open_study

if TYPE_CHECKING:
    from bench.launch.status import Cell, Overview

app = typer.Typer()

N_SHOWN = 10  # cells of a state, or reasons of one


class Format(enum.StrEnum):
    """How a status is written."""

    text = "text"
    json = "json"


@app.command()
def status(
    study: StudyArgument, format_: Annotated[Format, typer.Option("--format", "-f")] = Format.text
) -> None:
    """Print how far a study is: what runs and where, what failed and why, and when it is done."""
    from bench.launch.status import overview

    found = overview(*open_study(study))
    if format_ is Format.json:
        print(json.dumps(as_data(found), indent=1, ensure_ascii=False))
        return
    for line in lines(found):
        print(line)


@app.command()
def cancel(study: StudyArgument) -> None:
    """Take the jobs of a study out of Slurm's queue; rows and checkpoints stay."""
    from bench.find_run import folder_of
    from bench.launch import cancelling

    for line in cancelling.cancel(folder_of(study)):
        print(line, flush=True)


def as_data(found: Overview) -> dict[str, Any]:
    """An overview for programs."""
    from bench.launch.status import seconds_to_go

    return {
        "study": found.study.name,
        "n_cells": len(found.cells),
        "counts": found.counts(),
        "seconds_to_go": seconds_to_go(found.cells),
        "n_foreign_rows": found.n_foreign,
        "problems": found.problems,
        "cells": [
            {
                "id": cell.run.id,
                "run": str(cell.run),
                "state": cell.state,
                "reason": cell.reason,
                "where": cell.where,
                "since_unix_s": cell.since_unix_s,
            }
            for cell in found.cells
        ],
    }


def lines(found: Overview) -> Iterator[str]:
    """An overview for people."""
    from bench.terminal import one_line

    return map(one_line, _lines(found))


def _lines(found: Overview) -> Iterator[str]:
    from bench.launch.status import UNFINISHED

    counts = found.counts()
    parts = ", ".join(f"{n} {state}" for state, n in counts.items())
    yield f"{found.study.name}: {_counted(len(found.cells), 'cell')}: {parts}"
    for state in counts:
        cells = found.having(state)
        if state in ("running", "requeued", "lost"):
            yield from _listed(state, cells)
        elif state == "pending":
            yield from _waiting(cells)
        elif state != "done":
            yield from _reasons(state, cells)
    if any(state in counts for state in UNFINISHED):
        yield _to_go(found)
    if "lost" in counts:
        yield "lost cells run again with the next `bench sweep`, or with `bench retry --only lost`"
    if found.n_foreign:
        rows = _counted(found.n_foreign, "row")
        yield f"{rows} of no run of the study: `bench prune` moves them aside"
    for problem in found.problems:
        yield f"problem: {problem}"


def _listed(state: str, cells: list[Cell]) -> Iterator[str]:
    yield f"{state}:"
    now = time.time()
    for cell in cells[:N_SHOWN]:
        since = "" if cell.since_unix_s is None else f" for {clock(now - cell.since_unix_s)}"
        if state != "running":
            since = (
                "" if cell.since_unix_s is None else f" begun {clock(now - cell.since_unix_s)} ago"
            )
        detail = "; ".join(filter(None, (f"{cell.where}{since}".strip(), cell.reason)))
        yield f"  {cell.run.id}  {cell.run}  {detail}".rstrip()
    if len(cells) > N_SHOWN:
        yield f"  and {len(cells) - N_SHOWN} more"


def _waiting(cells: list[Cell]) -> Iterator[str]:
    """Pending cells by what they wait for; those in no queue wait for a sweep."""
    queued = Counter(cell.reason or "its turn" for cell in cells if cell.where)
    if not queued:
        return
    yield "pending:"
    for reason, n in queued.most_common(N_SHOWN):
        yield f"  {n} in the queue: {reason}"
    if rest := len(cells) - queued.total():
        yield f"  {rest} in no job: the next `bench sweep` takes them up"


def _reasons(state: str, cells: list[Cell]) -> Iterator[str]:
    """Reasons that differ in numbers alone are one, shown by the first."""
    kinds: Counter[str] = Counter()
    first: dict[str, Cell] = {}
    for cell in cells:
        kind = re.sub(r"\d+(\.\d+)?", "0", cell.reason)
        kinds[kind] += 1
        first.setdefault(kind, cell)
    yield f"{state}:"
    for kind, n in kinds.most_common(N_SHOWN):
        yield f"  {n} x {first[kind].reason or 'no reason given'}  (as {first[kind].run.id})"
    if len(kinds) > N_SHOWN:
        yield f"  and {len(kinds) - N_SHOWN} more reasons"


def _to_go(found: Overview) -> str:
    from bench.launch.status import seconds_to_go

    seconds = seconds_to_go(found.cells)
    if seconds is None:
        running = found.having("running")
        return "time to go: unknown until a cell is done" if running else "nothing runs"
    n = len(found.having("running"))
    return f"about {clock(seconds)} to go, {n} at a time as now"


def clock(seconds: float) -> str:
    """`3:07`, `1:02:03`, `2 days 1:02:03`."""
    minutes, rest = divmod(max(0, round(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    before = f"{_counted(days, 'day')} " if days else ""
    return f"{before}{hours}:{minutes:02}:{rest:02}" if days or hours else f"{minutes}:{rest:02}"


def _counted(n: int, what: str) -> str:
    return f"{n} {what}{'s'[: n != 1]}"
