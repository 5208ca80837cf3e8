"""`bench published`: what papers print, all of it or beside the cells of a study."""

from __future__ import annotations

import enum
from pathlib import Path
from typing import Annotated

import typer

NOTHING = "nothing that papers report stands beside a cell of this study"


class PublishedFormat(enum.StrEnum):
    """How published numbers are written."""

    md = "md"
    csv = "csv"


def published(
    task: Annotated[
        str | None, typer.Option("--task", "-t", help="by our name or the paper's")
    ] = None,
    architecture: Annotated[
        str | None, typer.Option("--architecture", "-a", help="by our name or the paper's")
    ] = None,
    study: Annotated[
        Path | None, typer.Option(help="only what stands beside a cell of this study")
    ] = None,
    format_: Annotated[PublishedFormat, typer.Option("--format", "-f")] = PublishedFormat.md,
) -> None:
    """Print what papers report, every version with its citation; nothing of it was run."""
    from bench.report import published as numbers

    found = numbers.select(numbers.read(), task=task, architecture=architecture)
    if study is not None:
        from bench.study import load

        beside = numbers.for_study(load(study), found)
        if format_ is PublishedFormat.md:
            print(numbers.markdown(beside) or f"{NOTHING}\n", end="")
            return
        kept = {id(line.number) for line in beside}
        found = [one for one in found if id(one) in kept]
    if format_ is PublishedFormat.csv:
        print(numbers.list_csv(found), end="")
    else:
        print(numbers.list_text(found), end="")
