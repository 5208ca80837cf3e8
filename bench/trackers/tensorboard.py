"""Rows as event files of TensorBoard, written by tensorboardX, which needs no TensorFlow.

One folder for each row: its curves, its metrics at the last step, its configuration as text. The
same rows give the same folders; a folder is replaced whole, by a run that begins or goes on too.
"""

from __future__ import annotations

import json
import re
import shutil
import tempfile
from collections.abc import Container, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from bench.errors import UserError
from bench.records.row import Row
from bench.records.store import Store
from bench.trackers import shown

FOLDER = "tensorboard"
MAX_STEM = 80  # characters of a folder's name before the id; file systems take 255 bytes
PARTIAL = ".partial-"
FLUSH_S = 5
"""How late somebody who looks on may see what a run has logged."""


def load() -> ModuleType:
    """The package, if it is here.

    Raises:
        UserError: it is not.
    """
    try:
        import tensorboardX
    except ImportError as error:
        raise UserError(
            f"tensorboardX is not installed ({error}); pip install 'seqbench[tensorboard]'"
        ) from None
    module: ModuleType = tensorboardX
    return module


class LiveRun:
    """The folder of a run that is at work.

    One that goes on from a checkpoint is told again what it had logged before it.
    """

    def __init__(self, package: ModuleType, folder: Path, row: Row, continued: bool) -> None:
        path = folder / FOLDER / folder_name(row)
        shutil.rmtree(path, ignore_errors=True)
        self._writer = package.SummaryWriter(logdir=str(path), flush_secs=FLUSH_S)
        self._last = 0
        _describe(self._writer, row, 0)

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Add a point to each of some curves."""
        self._last = max(self._last, step)
        _log(self._writer, step, values)

    def end(self, row: Row) -> None:
        """Add what came out."""
        _describe(self._writer, row, self._last)
        _conclude(self._writer, row, self._last)
        self._writer.close()

    def leave(self) -> None:
        """Stop here; the run goes on later."""
        self._writer.close()


def write(package: ModuleType, store: Store, folder: Path, keep: Container[str] = ()) -> int:
    """Write every row of a store below a folder; the answer is how many there are.

    Folders of rows that are no more are deleted, but for those of the ids in `keep`, whose runs
    may be at work.
    """
    folder.mkdir(parents=True, exist_ok=True)
    names = set()
    for row in store.rows():
        name = folder_name(row)
        names.add(name)
        with tempfile.TemporaryDirectory(dir=folder, prefix=PARTIAL) as parent:
            made = Path(parent) / name
            _write_row(package, row, made)
            shutil.rmtree(folder / name, ignore_errors=True)
            made.rename(folder / name)
    for path in folder.iterdir():
        row_id = _id_of(path.name) if path.is_dir() and path.name not in names else None
        if row_id is not None and row_id not in keep:
            shutil.rmtree(path)
    return len(names)


def folder_name(row: Row) -> str:
    """`lstm_parity_length_64_seed_0.<id>`: what TensorBoard calls the run."""
    stem = re.sub(r"[^\w=(),+-]+", "_", shown.name_of(row), flags=re.ASCII)
    return f"{stem[:MAX_STEM]}.{row.id}"


def _id_of(name: str) -> str | None:
    """The id of the row whose folder has this name; None if it is no such folder."""
    found = re.fullmatch(r"[\w=(),+-]*\.([0-9a-f]{16})", name, flags=re.ASCII)
    return None if found is None else found[1]


def _write_row(package: ModuleType, row: Row, folder: Path) -> None:
    with package.SummaryWriter(logdir=str(folder), flush_secs=1) as writer:
        last = 0
        for step, values in shown.steps(row.curves):
            last = step
            _log(writer, step, values)
        _conclude(writer, row, last)
        _describe(writer, row, 0)


def _log(writer: Any, step: int, values: Mapping[str, float]) -> None:
    for curve, value in values.items():
        writer.add_scalar(curve, value, step)


def _conclude(writer: Any, row: Row, last: int) -> None:
    for name, found in shown.final(row).items():
        if isinstance(found, str):
            writer.add_text(f"final/{name}", _literal(found), last)
        else:
            writer.add_scalar(f"final/{name}", found, last)


def _describe(writer: Any, row: Row, step: int) -> None:
    told = json.dumps(shown.configuration(row), indent=1, sort_keys=True)
    writer.add_text("configuration", _literal(told), step)


def _literal(text: str) -> str:
    """Text that TensorBoard's Markdown shows as it is: an indented block."""
    return "\n".join(f"    {line}" for line in text.splitlines() or [""])
