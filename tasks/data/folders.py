"""The folders that tasks read from, verified once per process: an epoch asks thousands of times."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

from tasks.data.cache import cache_folder, find, set_folder


def folder_of(name: str) -> Path:
    """The folder of a data set; see `set_folder`."""
    return _folder_of(name, cache_folder())


@cache
def _folder_of(name: str, root: Path) -> Path:
    return set_folder(name)


def fingerprint_of(name: str) -> str:
    """One hash of the published checksums of a data set's files, which is that of its data once
    they are verified. For sets of which every checksum is known.
    """
    lines = (f"{file.name} {file.sha256}\n" for file in find(name).files)
    return hashlib.sha256("".join(lines).encode()).hexdigest()
