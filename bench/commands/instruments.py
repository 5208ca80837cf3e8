"""`bench streams` and `bench reach`: what two of the instruments found, as tables."""

from __future__ import annotations

import typer

from bench.commands.shared import StudyArgument, TextFormat, TextFormatOption, frame_of

app = typer.Typer()


@app.command()
def streams(study: StudyArgument, format_: TextFormatOption = TextFormat.md) -> None:
    """Print the time of a token and the bytes of the state at each position of a stream."""
    from bench.report import streams as tables

    render = tables.as_csv if format_ is TextFormat.csv else tables.as_markdown
    print(render(frame_of(study)), end="")


@app.command()
def reach(study: StudyArgument, format_: TextFormatOption = TextFormat.md) -> None:
    """Print how far back gradients reach, before and after training."""
    from bench.report import reach as tables
    from bench.study import load

    render = tables.as_csv if format_ is TextFormat.csv else tables.as_markdown
    print(render(frame_of(study), tables.told_apart(load(study).runs)), end="")
