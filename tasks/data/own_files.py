"""Files that users point at."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import NamedTuple

from tasks.data.errors import DataError


class Version(NamedTuple):
    """A file as it is now: a key of caches, another one once the file has changed."""

    path: str
    size: int
    mtime_ns: int


def version_of(given: str) -> Version:
    """The file at a path, which counts from the current folder and may begin with ~.

    Raises:
        DataError: there is none; the message names the nearest one beside it.
    """
    path = Path(given).expanduser().absolute()
    if not path.is_file():
        beside = [file.name for file in path.parent.glob("*") if file.is_file()]
        near = difflib.get_close_matches(path.name, beside, n=1)
        hint = f"; did you mean {path.parent / near[0]}?" if near else ""
        raise DataError(f"there is no file {path}{hint}")
    status = path.stat()
    return Version(str(path), status.st_size, status.st_mtime_ns)
