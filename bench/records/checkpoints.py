"""Where the checkpoints of a run are: `work/checkpoints/<id>/step-<n>.ckpt`, the last two.

What is in them is training's own; a launcher only finds and forgets them.
"""

from __future__ import annotations

import shutil
from contextlib import suppress
from pathlib import Path

from bench.records import files

KEPT = 2
"""One may be broken: the disk was full, or its machine died before it was all there."""


def folder_of(study_folder: Path, run_id: str) -> Path:
    """Where a run keeps its checkpoints."""
    return study_folder / "work" / "checkpoints" / run_id


def file_of(folder: Path, step: int) -> Path:
    """The checkpoint after `step` steps."""
    return folder / f"step-{step}.ckpt"


def found(folder: Path) -> list[Path]:
    """The checkpoints that are there, the newest first."""
    steps = [
        int(number)
        for path in folder.glob("step-*.ckpt")
        if (number := path.stem.removeprefix("step-")).isdecimal()
    ]
    return [file_of(folder, step) for step in sorted(steps, reverse=True)]


def drop_older(folder: Path) -> None:
    """Delete all but the last two, and what a killed writer left."""
    with suppress(OSError):  # one too many does no harm
        files.remove_partial_files(folder)
        for path in found(folder)[KEPT:]:
            path.unlink(missing_ok=True)


def forget(study_folder: Path, run_id: str) -> None:
    """Delete the checkpoints of a run that has its row."""
    shutil.rmtree(folder_of(study_folder, run_id), ignore_errors=True)
