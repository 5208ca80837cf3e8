"""What differs: `bench compare` of two studies, `bench pairs` of the architectures of one."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer

from bench.commands.shared import StudyArgument, TextFormat, TextFormatOption, frame_of
from bench.errors import UserError, unknown

app = typer.Typer()


@app.command()
def compare(
    before: Annotated[Path, typer.Argument(metavar="A", help="a folder with a study.yaml")],
    after: Annotated[Path, typer.Argument(metavar="B", help="another, or the same later")],
    fail_on_regression: Annotated[
        str | None,
        typer.Option(
            metavar="5%", help="exit 1 if a cell is lost, or clearly worse by more than this"
        ),
    ] = None,
    across: Annotated[
        bool,
        typer.Option("--across", help="compare machines, precisions and world sizes too"),
    ] = False,
    format_: TextFormatOption = TextFormat.md,
) -> None:
    """Print what changed from study A to study B, cell by cell, against noise and seeds."""
    from bench.report import comparison, comparison_tables

    share = None if fail_on_regression is None else _share(fail_on_regression)
    found = comparison.compare(frame_of(before), frame_of(after), across=across)
    names = (str(before), str(after))
    print(comparison_tables.render(found, names, format_.value), end="")
    if share is None:
        return
    typer.echo(
        comparison_tables.regressions(found, share), nl=False, err=format_ is not TextFormat.md
    )
    if found.regressions(share):
        raise typer.Exit(1)


@app.command()
def pairs(
    study: StudyArgument,
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="[ARCHITECTURE]...", help="those to compare; default: all"),
    ] = None,
    task: Annotated[
        list[str] | None, typer.Option("--task", "-t", help="of these tasks alone")
    ] = None,
    format_: TextFormatOption = TextFormat.md,
) -> None:
    """Say of every two architectures whether one is better, over tasks, lengths and seeds."""
    from bench.report import pair_tables

    frame = frame_of(study)
    for column, asked in (("task", task or []), ("architecture", names or [])):
        known = list(dict.fromkeys(frame[column]))
        for name in asked:
            if name not in known:
                raise unknown(column, name, known)
        if asked:
            frame = frame[frame[column].isin(asked)]
    print(pair_tables.render(frame, format_.value), end="")


def _share(text: str) -> float:
    """5% as 0.05."""
    match = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)%", text.strip())
    if match is None:
        raise UserError(f"--fail-on-regression takes a percentage as in 5%, not {text!r}")
    return float(match[1]) / 100
