"""Signals that ask a run to leave: they set a flag, and the run looks at it between two steps.

Nothing is written in a handler: it may come in the middle of anything.
"""

from __future__ import annotations

import signal
from types import FrameType

SIGNALS = (signal.SIGUSR1, signal.SIGTERM)
"""Slurm's warning, and what a preemption, a time limit and a system that shuts down begin with."""

_received: int | None = None


class Interrupted(BaseException):
    """The run leaves because it was asked to. Its checkpoint is there: it is no failure."""


def install() -> None:
    """Let the signals set the flag from now on; nothing was received so far."""
    global _received
    _received = None
    for number in SIGNALS:
        signal.signal(number, _note)


def requested() -> int | None:
    """The signal that was received, if one was."""
    return _received


def _note(number: int, frame: FrameType | None) -> None:
    global _received
    _received = number
