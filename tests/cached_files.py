"""Files of a set of data as the table knows them, and the type of the fixture that places them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

from tasks.data.data_set import DataFile

Place: TypeAlias = Callable[..., Path]
"""The fixture `place`."""


def sha256(content: bytes) -> str:
    """The checksum of a file, in hexadecimal digits."""
    return hashlib.sha256(content).hexdigest()


def plain(content: bytes, **changes: object) -> DataFile:
    """A file of that content; `changes` are other values of its fields."""
    fields: dict[str, object] = {
        "name": "file one",
        "urls": ("https://example.org/f",),
        "bytes": len(content),
        "sha256": sha256(content),
    }
    return DataFile(**(fields | changes))  # type: ignore[arg-type]


def packed(content: bytes, name: str = "archive.gz", **changes: object) -> DataFile:
    """An archive of that content."""
    return plain(content, name=name, unpack=True, **changes)
