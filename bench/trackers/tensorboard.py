"""Rows as event files of TensorBoard, written by tensorboardX, which needs no TensorFlow.

One folder for each row: its curves, its metrics at the last step, its configuration as text. The
same rows give the same folders; a folder is replaced whole.
"""

from __future__ import annotations

import json
import re
import shutil
import tempfile
from pathlib import Path
from types import ModuleType

from bench.errors import UserError
from bench.records.row import Row
from bench.records.store import Store
from bench.trackers import shown

FOLDER = "tensorboard"
MAX_STEM = 80  # characters of a folder's name before the id; file systems take 255 bytes
PARTIAL = ".partial-"


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


def write(package: ModuleType, store: Store, folder: Path) -> int:
    """Write every row of a store below a folder; the answer is how many there are.

    Folders of rows that are no more are deleted.
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
        if path.is_dir() and path.name not in names and _is_ours(path.name):
            shutil.rmtree(path)
    return len(names)


def folder_name(row: Row) -> str:
    """`lstm_parity_length_64_seed_0.<id>`: what TensorBoard calls the run."""
    stem = re.sub(r"[^\w=(),+-]+", "_", shown.name_of(row), flags=re.ASCII)
    return f"{stem[:MAX_STEM]}.{row.id}"


def _is_ours(name: str) -> bool:
    return re.fullmatch(r"[\w=(),+-]*\.[0-9a-f]{16}", name, flags=re.ASCII) is not None


def _write_row(package: ModuleType, row: Row, folder: Path) -> None:
    with package.SummaryWriter(logdir=str(folder), flush_secs=1) as writer:
        last = 0
        for step, values in shown.steps(row):
            last = max(last, step)
            for curve, value in values.items():
                writer.add_scalar(curve, value, step)
        for name, found in shown.final(row).items():
            if isinstance(found, str):
                writer.add_text(f"final/{name}", _literal(found), last)
            else:
                writer.add_scalar(f"final/{name}", found, last)
        told = json.dumps(shown.configuration(row), indent=1, sort_keys=True)
        writer.add_text("configuration", _literal(told), 0)


def _literal(text: str) -> str:
    """Text that TensorBoard's Markdown shows as it is: an indented block."""
    return "\n".join(f"    {line}" for line in text.splitlines() or [""])
