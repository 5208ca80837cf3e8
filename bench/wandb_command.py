"""`bench wandb push`: rows as runs of Weights & Biases."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(
    help="Show rows in Weights & Biases; offline unless WANDB_MODE=online.", no_args_is_help=True
)


@app.callback()
def group() -> None:
    """Keep `push` a command of its own."""


@app.command()
def push(
    study: Annotated[Path, typer.Argument(metavar="STUDY", help="a folder with a study.yaml")],
    project: Annotated[str | None, typer.Option(help="default: the name of the study")] = None,
    page: Annotated[
        bool, typer.Option("--page/--no-page", help="with the page as artifact")
    ] = True,
    again: Annotated[bool, typer.Option("--again", help="rows that were pushed, too")] = False,
) -> None:
    """Push every row that has changed since it was pushed: one run each, of the row's id."""
    from bench.records.store import Store
    from bench.report import page as pages
    from bench.study import load
    from bench.trackers import weights_and_biases

    package = weights_and_biases.load()
    loaded = load(study)
    store = Store(loaded.folder)
    written = None
    if page:
        written = pages.write(loaded, store, loaded.folder / "report.html", across=True)
    pushed = weights_and_biases.push(
        package, loaded, store, project=project, page=written, again=again
    )
    print(f"{pushed.sent} rows pushed, {pushed.unchanged} as they were")
