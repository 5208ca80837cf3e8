"""Brings a data set onto this machine: downloads, checks, unpacks and stamps it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tasks.data.cache import MissingDataError, cache_folder, find, set_folder
from tasks.data.download import Progress, download
from tasks.data.errors import DataError
from tasks.data.stamp import exclusive


def fetch(
    name: str, progress: Progress | None = None, waiting: Callable[[], None] | None = None
) -> Path:
    """The folder of a data set, downloaded if it is not there yet.

    Of several processes that fetch the same set, one downloads and the others wait for it.

    Args:
        name: of the set.
        progress: told how a download comes on.
        waiting: called once if another process is at it.

    Raises:
        DataError: no address gave the right files, or the cache cannot be written.
    """
    try:
        return set_folder(name)
    except MissingDataError:
        data_set, folder = find(name), cache_folder() / name
        if not data_set.can_be_downloaded:
            raise
    with exclusive(folder, waiting) as writable:
        if not writable:
            raise DataError(f"cannot write {folder}: set SEQBENCH_DATA to a folder that can be")
        for file in data_set.files:
            if not (folder / file.name).exists():
                download(file, folder / file.name, progress)
    return set_folder(name)
