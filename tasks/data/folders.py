"""The folders that tasks read from, verified once per process: an epoch asks thousands of times."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from tasks.data.cache import cache_folder, set_folder


def folder_of(name: str) -> Path:
    """The folder of a data set; see `set_folder`."""
    return _folder_of(name, cache_folder())


@cache
def _folder_of(name: str, root: Path) -> Path:
    return set_folder(name)
