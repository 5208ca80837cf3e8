"""`bench wandb push`: rows as runs of Weights & Biases."""

from __future__ import annotations

from typing import Annotated

import typer

from bench.commands.shared import StudyArgument, open_study

app = typer.Typer(
    help="Show rows in Weights & Biases; offline unless WANDB_MODE=online.", no_args_is_help=True
)


@app.callback()
def group() -> None:
    """Keep `push` a command of its own."""


@app.command()
def push(
    study: StudyArgument,
    project: Annotated[str | None, typer.Option(help="default: the name of the study")] = None,
    page: Annotated[
        bool, typer.Option("--page/--no-page", help="with the page as artifact")
    ] = True,
    again: Annotated[bool, typer.Option("--again", help="rows that were pushed, too")] = False,
) -> None:
    """Push every row that has changed since it was pushed: one run each, of the row's id."""
    from bench.report import page as pages
    from bench.trackers import weights_and_biases

    package = weights_and_biases.load()
    loaded, store = open_study(study)
    written = None
    if page:
        written = pages.write(loaded, store, loaded.folder / "report.html", across=True)
    pushed = weights_and_biases.push(
        package, loaded, store, project=project, page=written, again=again
    )
    print(f"{pushed.sent} rows pushed, {pushed.unchanged} as they were")
