"""`bench tensorboard`: rows as event files of TensorBoard."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def tensorboard(
    study: Annotated[Path, typer.Argument(metavar="STUDY", help="a folder with a study.yaml")],
    out: Annotated[Path | None, typer.Option(help="default: tensorboard/ in the study")] = None,
) -> None:
    """Write every row for TensorBoard; show them with `tensorboard --logdir`."""
    from bench.records.store import Store
    from bench.study import load
    from bench.trackers import tensorboard as tracker

    package = tracker.load()
    loaded = load(study)
    folder = out or loaded.folder / tracker.FOLDER
    print(f"{tracker.write(package, Store(loaded.folder), folder)} rows in {folder}")
