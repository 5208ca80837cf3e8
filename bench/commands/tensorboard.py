"""`bench tensorboard`: rows as event files of TensorBoard."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bench.commands.shared import StudyArgument, open_study


def tensorboard(
    study: StudyArgument,
    out: Annotated[Path | None, typer.Option(help="default: tensorboard/ in the study")] = None,
) -> None:
    """Write every row for TensorBoard; show them with `tensorboard --logdir`."""
    from bench.trackers import tensorboard as tracker

    package = tracker.load()
    loaded, store = open_study(study)
    folder = out or loaded.folder / tracker.FOLDER
    asked = {run.id for run in loaded.runs}
    print(f"{tracker.write(package, store, folder, keep=asked)} rows in {folder}")
