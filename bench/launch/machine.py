"""The lock on this machine: training shares it, measuring of time has it alone.

SEQBENCH_MACHINE_LOCK names another file for it: who sets it has seen to it by other means that
nothing works beside what is timed, or does not mind, as tests do not.
"""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def shared(waiting: Callable[[str], None]) -> Iterator[None]:
    """Work beside the user's other sweeps; `waiting` is told if one of them measures."""
    with _locked(fcntl.LOCK_SH, waiting):
        yield


@contextmanager
def alone(waiting: Callable[[str], None]) -> Iterator[None]:
    """Have the machine alone; `waiting` is told if another of the user's sweeps works on it."""
    with _locked(fcntl.LOCK_EX, waiting):
        yield


@contextmanager
def _locked(mode: int, waiting: Callable[[str], None]) -> Iterator[None]:
    usual = Path(tempfile.gettempdir()) / f"seqbench-machine-{os.getuid()}.lock"
    path = Path(os.environ.get("SEQBENCH_MACHINE_LOCK") or usual)
    descriptor = os.open(path, os.O_RDONLY | os.O_CREAT, 0o600)
    try:
        try:
            fcntl.flock(descriptor, mode | fcntl.LOCK_NB)
        except BlockingIOError:
            waiting("another sweep has this machine; waiting for it")
            fcntl.flock(descriptor, mode)
        yield
    finally:
        os.close(descriptor)
