"""`bench work`: what the jobs of a submitted sweep call; people do not."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def work(
    plan: Annotated[Path, typer.Argument(metavar="PLAN")],
    index: Annotated[int, typer.Argument(metavar="INDEX", min=0)],
    settle: Annotated[
        int | None, typer.Option(metavar="CODE", help="exit code of a step that ended badly")
    ] = None,
) -> None:
    """Do the cells of one element of a job array."""
    from bench.launch.slurm import element

    code = element.work(plan, index) if settle is None else element.settle(plan, index, settle)
    raise typer.Exit(code)
