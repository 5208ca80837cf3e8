"""Trackers that follow a run at work, each in a thread of its own.

The run hands over what there is to log and goes on. A tracker that raises, hangs or falls behind is
given up with one line in the run's log: it costs the run nothing, whatever has become of a server
or a disk.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol, TypeAlias

from bench.process import say
from bench.records.row import Row

PACE_S = 0.1
"""The least time from one point to the next while a run trains. A point takes up to 0.8 ms of a
core, which is then less than 1% of it, however short the steps; those of 5 ms and more, with a
point for every 20 of them, are not kept waiting. At the end of a run the rest follows at once.
"""

MAX_WAITING = 100_000
"""Points that a tracker may be behind."""

STALL_S = 180.0
"""How long a tracker may take over one of them; Weights & Biases waits 90 s for its server."""

END_S = 60.0
"""How long a run that has its row waits for its trackers."""

LEAVE_S = 5.0
"""The same for a run that is asked to leave: whoever asks will not wait long."""


class LiveRun(Protocol):
    """A run as a tracker shows it; made when the run begins, with what is known of its row."""

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Add a point to each of some curves."""

    def end(self, row: Row) -> None:
        """Add what came out."""

    def leave(self) -> None:
        """Stop here; the run goes on later."""


Begin: TypeAlias = Callable[[Row, bool], LiveRun]
"""From the row as far as it is known, and whether the run goes on from a checkpoint."""


class Follower:
    """One tracker, and the thread in which it works. Nothing here raises or blocks."""

    def __init__(self, name: str, begin: Begin) -> None:
        self.name = name
        self._begin = begin
        self._run: LiveRun | None = None
        self._tasks: queue.Queue[Callable[[], None] | None] = queue.Queue(MAX_WAITING)
        self._busy_since: float | None = None
        self._given_up = threading.Event()
        self._giving_up = threading.Lock()
        self._hurry = threading.Event()
        self._thread = threading.Thread(target=self._work, name=f"tracker {name}", daemon=True)

    def begin(self, row: Row, continued: bool) -> None:
        """Show a run of which this is known so far."""

        def act() -> None:
            self._run = self._begin(row, continued)

        try:
            self._thread.start()
        except RuntimeError as error:  # too many threads, or no memory for one
            self._give_up(str(error))
        self._hand_over(act)

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Add a point to each of some curves."""
        self._hand_over(lambda: self._shown().log(step, values))

    def end(self, row: Row) -> None:
        """Add the row that the run has left."""
        self._hand_over(lambda: self._shown().end(row))

    def leave(self) -> None:
        """The run goes on later, in another process."""
        self._hand_over(lambda: self._shown().leave())

    def join(self, deadline: float) -> None:
        """Wait until all is shown, or given up, or until a time of time.monotonic()."""
        self._hurry.set()
        self._hand_over(None)
        while self._thread.is_alive() and not self._given_up.is_set():
            left_s = deadline - time.monotonic()
            if left_s <= 0:
                self._give_up("it did not end")
            self._thread.join(min(max(left_s, 0.0), 0.1))

    def _shown(self) -> LiveRun:
        assert self._run is not None, "begin comes first"
        return self._run

    def _hand_over(self, task: Callable[[], None] | None) -> None:
        if self._given_up.is_set():
            return
        since = self._busy_since
        if since is not None and time.monotonic() - since > STALL_S:
            self._give_up(f"nothing happened for {STALL_S:g} s")
            return
        try:
            self._tasks.put_nowait(task)
        except queue.Full:
            self._give_up(f"it is {MAX_WAITING:,} points behind")

    def _give_up(self, reason: str) -> None:
        with self._giving_up:
            if self._given_up.is_set():
                return
            self._given_up.set()
        say(f"tracker {self.name}: {reason}; the run goes on without it")

    def _work(self) -> None:
        while (task := self._tasks.get()) is not None and not self._given_up.is_set():
            self._busy_since = time.monotonic()
            try:
                task()
            except BaseException as error:  # a library may exit, too
                self._give_up(f"{type(error).__name__}: {error}".replace("\n", " "))
                return
            self._busy_since = None
            self._hurry.wait(PACE_S)


class Followers:
    """The trackers of one run; there may be none."""

    def __init__(self, trackers: Mapping[str, Begin]) -> None:
        self._followers = [Follower(name, begin) for name, begin in trackers.items()]
        self._begun = False

    def begin(self, row: Row, continued: bool = False) -> Sequence[Follower]:
        """Show the run; what it logs is to be told to each of these."""
        self._begun = True
        for follower in self._followers:
            follower.begin(row, continued)
        return self._followers

    def end(self, row: Row) -> None:
        """Show the row of the run, and wait for it a little."""
        if not self._begun:
            self.begin(row)  # which ended before it could begin to train
        for follower in self._followers:
            follower.end(row)
        self._join(END_S)

    def leave(self) -> None:
        """The run goes on later, in another process."""
        for follower in self._followers if self._begun else ():
            follower.leave()
        self._join(LEAVE_S)

    def _join(self, patience_s: float) -> None:
        deadline = time.monotonic() + patience_s
        for follower in self._followers if self._begun else ():
            follower.join(deadline)
