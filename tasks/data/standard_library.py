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
from typing import NamedTuple

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


class Piece(NamedTuple):
    """A part of a source file."""

    path: str  # of the file
    start: int  # where the part begins in it
    text: bytes


def pieces(task: str) -> dict[Split, list[Piece]]:
    """The parts of files that make the text of each split, in order.

    A file's split and place follow from the sha256 of its path, so that a file that comes or goes
    with a Python version moves no other, and neighbours in a folder are spread. Held-out text is
    all first pieces, then all second pieces: its beginning is not one large file.

    Raises:
        MissingPackageError: this Python comes without its sources.
    """
    found: dict[Split, list[tuple[int, bytes, Piece]]] = {split: [] for split in SPLITS}
    for path in source_files():
        content, digest = content_of(path), hashlib.sha256(path.encode()).digest()
        split = split_of(digest)
        step = len(content) + 1 if split == "train" else PIECE_BYTES
        for number, start in enumerate(range(0, len(content), step)):
            piece = Piece(path, start, content[start : start + step])
            found[split].append((number, digest, piece))
    if not all(found.values()):
        raise MissingPackageError(
            f"task {task!r} needs the sources of the standard library, and {_root()} has too few: "
            "install Python with its .py files"
        )
    return {split: [piece for *_, piece in sorted(parts)] for split, parts in found.items()}


@cache
def read(task: str) -> dict[Split, Tensor]:
    """The text of each split as uint8.

    Raises:
        MissingPackageError: this Python comes without its sources.
    """
    texts = {
        split: b"".join(piece.text for piece in parts) for split, parts in pieces(task).items()
    }
    return {
        split: torch.frombuffer(bytearray(text), dtype=torch.uint8) for split, text in texts.items()
    }


def content_of(path: str) -> bytes:
    """The bytes of a source file."""
    return (_root() / path).read_bytes()


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
