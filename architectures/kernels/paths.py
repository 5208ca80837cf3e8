"""Which implementation an operation takes: told to whoever is recording, while it runs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_open: ContextVar[dict[str, str] | None] = ContextVar("recorder", default=None)


def note(operation: str, path: str) -> None:
    """Say that an operation takes a path; nothing happens unless `recorded` is open."""
    paths = _open.get()
    if paths is not None:
        paths[operation] = path


@contextmanager
def recorded() -> Iterator[dict[str, str]]:
    """Collect the path of each operation that runs inside."""
    paths: dict[str, str] = {}
    token = _open.set(paths)
    try:
        yield paths
    finally:
        _open.reset(token)
