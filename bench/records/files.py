"""Files that are whole or absent: a reader never sees half of one, whatever kills the writer."""

from __future__ import annotations

import errno
import fcntl
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

from bench.errors import UserError

TEMPORARY_PREFIX = ".partial-"


STALE_WAITS_S = (0.05, 0.2, 1.0)
"""Waits before further tries where the handle of a network file system is stale."""

T = TypeVar("T")


def patiently(act: Callable[[], T]) -> T:
    """Do it, and again if a server has replaced the file or folder meanwhile (ESTALE)."""
    for wait_s in STALE_WAITS_S:
        try:
            return act()
        except OSError as error:
            if error.errno != errno.ESTALE:
                raise
            time.sleep(wait_s)
    return act()


def write_atomically(path: Path, content: bytes | memoryview) -> None:
    """Put `content` at `path` in one step, and onto the disk before returning.

    Raises:
        UserError: the folder cannot be written.
    """
    try:
        patiently(lambda: _write(path, content))
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}") from None


def _write(path: Path, content: bytes | memoryview) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=TEMPORARY_PREFIX)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fchmod(file.fileno(), 0o666 & ~_umask())  # mkstemp makes it private
            os.fsync(file.fileno())
        Path(name).replace(path)
    except BaseException:
        with suppress(OSError):
            Path(name).unlink()
        raise
    _sync_folder(path.parent)


def remove_partial_files(folder: Path) -> None:
    """Delete what a killed writer left."""
    for path in folder.glob(f"{TEMPORARY_PREFIX}*"):
        path.unlink(missing_ok=True)


@contextmanager
def exclusive(folder: Path) -> Iterator[None]:
    """Hold the folder against other processes that rewrite it.

    Without such a lock two simultaneous packs lose the rows that only one of them has read. File
    systems that cannot lock a folder (some network ones) go without.
    """
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError as error:
        raise UserError(f"cannot open {folder}: {error.strerror}") from None
    try:
        with suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _sync_folder(folder: Path) -> None:
    """Make a rename survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
