"""Signals to a launcher: it asks its workers to leave, and leaves itself when they have.

Slurm warns with SIGUSR1 and ends with SIGTERM, as a system that shuts down does.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from bench.training.interrupts import SIGNALS


class Stopped(BaseException):
    """A signal ended the launcher's work; what is left goes on with the same command."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.exit_code = 128 + number  # as a shell has it


@contextmanager
def heeding(receive: Callable[[int], None]) -> Iterator[None]:
    """Hand every such signal to `receive` while the block lasts."""

    def handle(number: int, frame: FrameType | None) -> None:
        receive(number)

    before = {number: signal.signal(number, handle) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def deaf() -> Iterator[None]:
    """Let processes that are started in the block ignore these signals, and Ctrl-C."""
    before = {number: signal.signal(number, signal.SIG_IGN) for number in (*SIGNALS, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
