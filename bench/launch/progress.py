"""The live display of a sweep: done, failed, left, time to go, current cells."""

from __future__ import annotations

import time
from collections import Counter
from types import TracebackType

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from bench.spec import Run

STOPPED = "stopped"  # asked to leave, with a checkpoint and without a row
FAILURES = ("oom", "timeout", "diverged", "failed", "preempted")


class Progress:
    """Prints a line for each cell that ended, and under them, on a terminal, what is going on."""

    def __init__(self, missing: int, done_before: int, n_workers: int) -> None:
        self.missing, self.done_before, self.n_workers = missing, done_before, n_workers
        self.counts: Counter[str] = Counter()
        self.current: dict[str, tuple[Run, float]] = {}
        self.begun = time.monotonic()
        self.console = Console(highlight=False)
        self.live = Live(console=self.console, auto_refresh=False, transient=True)

    def __enter__(self) -> Progress:
        if not self.missing:
            self.console.print(f"0 cells to run, {self.done_before} done")
            return self
        cells = f"{_cells(self.missing)} to run, {self.done_before} done"
        self.console.print(f"{cells}; {self.n_workers} at a time", soft_wrap=True)
        if self.console.is_terminal:
            self.live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.live.stop()
        if self.missing and kind is None:
            counted = ", ".join(f"{n} {status}" for status, n in sorted(self.counts.items()))
            self.console.print(f"{counted} in {_clock(time.monotonic() - self.begun)}")

    def started(self, run: Run) -> None:
        """A worker has begun with a run."""
        self.current[run.id] = (run, time.monotonic())

    def finished(self, run: Run, status: str, reason: str) -> None:
        """A run has ended."""
        _, begun = self.current.pop(run.id, (run, time.monotonic()))
        self.counts[status] += 1
        seconds = time.monotonic() - begun
        n = self.counts.total()
        line = f"{n:>{len(str(self.missing))}}/{self.missing} {status:11} {seconds:6.1f} s  {run}"
        # Text, not markup: names may hold square brackets.
        self.console.print(Text(f"{line}  {reason}" if reason else line), soft_wrap=True)

    def waiting(self, reason: str) -> None:
        """Nothing can be started yet."""
        self.console.print(reason)

    def tick(self) -> None:
        """Draw."""
        if self.live.is_started:
            self.live.update(self._picture(), refresh=True)

    def interrupted(self) -> None:
        """Say what a Ctrl-C leaves."""
        left = self.missing - self.counts.total() + self.counts[STOPPED]
        self.console.print(f"interrupted: {_cells(left)} left; the same command goes on from here")

    def _picture(self) -> Group:
        done = self.counts.total()
        failed = sum(self.counts[status] for status in FAILURES)
        spent = time.monotonic() - self.begun
        eta = _clock(spent / done * (self.missing - done)) if done else "?"
        left = self.missing - done
        cells = Table.grid(padding=(0, 2))
        now = time.monotonic()
        running = sorted(self.current.values(), key=lambda held: held[1])
        for run, begun in running[-2 * self.n_workers :]:
            cells.add_row(_clock(now - begun), Text(str(run), no_wrap=True, overflow="ellipsis"))
        return Group(
            ProgressBar(total=self.missing, completed=done, width=60),
            Text(f"{done} done, {failed} failed, {left} left, {eta} to go"),
            cells,
        )


def _cells(n: int) -> str:
    return f"{n} cell{'s'[: n != 1]}"


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
