"""A run that hangs prints what each of its threads is at, and ends.

A deadlock, a file system that does not answer, a rank whose partner is gone: such a process would
hold its place until the time limit. The clock runs in a thread without Python's lock, so that it
goes off whatever the others wait for.
"""

from __future__ import annotations

import faulthandler
import time

BEAT_S = 1.0
"""The clock is set again at most so often: to do so starts a thread."""

_limit_s: float | None = None
_set_at = 0.0


def arm(limit_s: float) -> None:
    """End this process, with a dump of its threads on stderr, once nothing happens for so long."""
    global _limit_s, _set_at
    _limit_s, _set_at = limit_s, time.monotonic()
    faulthandler.dump_traceback_later(limit_s, exit=True)


def beat() -> None:
    """Something has happened."""
    if _limit_s is not None and time.monotonic() - _set_at >= min(BEAT_S, _limit_s / 4):
        arm(_limit_s)


def disarm() -> None:
    """Nothing has to happen any more."""
    global _limit_s
    _limit_s = None
    faulthandler.cancel_dump_traceback_later()
