"""The sources of the running Python's standard library: about 12 MB of code and English.

Origin: https://github.com/python/cpython, folder Lib. Licence: PSF-2.0. The text depends on the
Python version, so results compare only where the fingerprints are equal.
"""

from __future__ import annotations

import hashlib
import os
import sysconfig
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from tasks.task import SPLITS, MissingPackageError, Split

HELD_OUT_SHARE = 16
"""Of 256: the share of files held out for val, and as many again for test."""
PIECE_BYTES = 16384
"""Held-out files are cut into pieces of this size."""

SKIPPED_FOLDERS = {
    *("test", "tests", "idle_test"),  # Debian's Python comes without them
    *("site-packages", "dist-packages", "__pycache__"),
}
# Written when Python is built: they hold the paths of that machine.
SKIPPED_PREFIXES = ("_sysconfigdata", "config-")


@cache
def read(task: str) -> dict[Split, Tensor]:
    """The text of each split as uint8.

    A file's split and place follow from the sha256 of its path, so that a file that comes or goes
    with a Python version moves no other, and neighbours in a folder are spread. Held-out text is
    all first pieces, then all second pieces: its beginning is not one large file.

    Raises:
        MissingPackageError: this Python comes without its sources.
    """
    pieces: dict[Split, list[tuple[int, bytes, bytes]]] = {split: [] for split in SPLITS}
    for path in source_files():
        content, digest = (_root() / path).read_bytes(), hashlib.sha256(path.encode()).digest()
        split = split_of(digest)
        step = len(content) + 1 if split == "train" else PIECE_BYTES
        for number, start in enumerate(range(0, len(content), step)):
            pieces[split].append((number, digest, content[start : start + step]))
    if not all(pieces.values()):
        raise MissingPackageError(
            f"task {task!r} needs the sources of the standard library, and {_root()} has too few: "
            "install Python with its .py files"
        )
    texts = {split: b"".join(text for *_, text in sorted(found)) for split, found in pieces.items()}
    return {
        split: torch.frombuffer(bytearray(text), dtype=torch.uint8) for split, text in texts.items()
    }


@cache
def sha256(task: str) -> str:
    """A hash of the text of all splits."""
    digest = hashlib.sha256()
    for text in read(task).values():
        digest.update(text.numpy().tobytes())
    return digest.hexdigest()


def source_files() -> list[str]:
    """Paths of the .py files below the standard library's folder, tests left out, sorted."""
    found = []
    for folder, below, files in os.walk(_root()):
        below[:] = [name for name in below if not _is_skipped(name)]
        found += [
            (Path(folder) / name).relative_to(_root()).as_posix()
            for name in files
            if name.endswith(".py") and not _is_skipped(name)
        ]
    return sorted(found)


def split_of(digest: bytes) -> Split:
    """The split of a file, from the hash of its path."""
    if digest[0] < HELD_OUT_SHARE:
        return "val"
    return "test" if digest[0] < 2 * HELD_OUT_SHARE else "train"


def _is_skipped(name: str) -> bool:
    return name in SKIPPED_FOLDERS or name.startswith(SKIPPED_PREFIXES)


def _root() -> Path:
    return Path(sysconfig.get_path("stdlib"))
