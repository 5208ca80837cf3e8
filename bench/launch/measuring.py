"""Measuring runs: each instrument's process for each cell, and then all cells timed in turns.

Instruments that may share the machine run beside each other; those that time have it alone, one
cell after another, and so has the session that times throughput. A row is written once, by that
session: whatever an instrument's process came to, the row keeps what the others measured.
"""

from __future__ import annotations

import json
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

from bench.launch import entry, machine
from bench.launch.autopsy import describe_exit
from bench.launch.pool import ELSEWHERE, Pool, Watcher
from bench.measure.instruments import INSTRUMENTS, THROUGHPUT, Found
from bench.records.row import Status
from bench.spec import Run

SESSION_CELLS = 64
"""Cells that are timed in one process: more of them would crowd its memory."""

Alone: TypeAlias = dict[str, dict[str, Found]]
"""By run id and instrument."""


def measure(pool: Pool, runs: Sequence[Run], n_workers: int, watcher: Watcher) -> None:
    """Measure runs with the instruments that they ask for; every run leaves a row."""
    if not runs:
        return
    with tempfile.TemporaryDirectory(dir=pool.store.folder / "work", prefix="alone-") as folder:
        results = _Results(pool, Path(folder).resolve())
        with machine.shared(watcher.waiting):
            for name, instrument in INSTRUMENTS.items():
                if not instrument.timed:
                    results.collect(name, runs, n_workers)
        with machine.alone(watcher.waiting):
            for name, instrument in INSTRUMENTS.items():
                if instrument.timed:
                    results.collect(name, runs, n_workers=1)
            done = pool.store.ids()
            left = [run for run in runs if run.id not in done | results.elsewhere]
            for group in sessions(left):
                time_together(pool, group, results.found)


@dataclass
class _Results:
    """What the instruments found so far; their processes leave it in files of this folder."""

    pool: Pool
    folder: Path
    found: Alone = field(default_factory=lambda: defaultdict(dict))
    elsewhere: set[str] = field(default_factory=set)  # runs that another launcher measures

    def collect(self, name: str, runs: Sequence[Run], n_workers: int) -> None:
        """Let one instrument measure the runs that ask for it."""

        def result(run: Run) -> Path:
            return self.folder / f"{run.id}.{name}.json"

        def bury(run: Run, status: Status, reason: str) -> None:
            self.found[run.id][name] = Found(status, reason, self.pool.log_tail(run))

        wanted = [
            run for run in runs if name in run.measure.instruments and run.id not in self.elsewhere
        ]
        self.pool.each(
            wanted, n_workers, entry.measure_alone, lambda run: (name, result(run)), bury
        )
        for run in wanted:
            if result(run).exists():
                self.found[run.id][name] = Found(**json.loads(result(run).read_text()))
            elif name not in self.found[run.id]:
                self.elsewhere.add(run.id)


def time_together(pool: Pool, runs: list[Run], found: Alone) -> None:
    """Time runs together and leave their rows; should that kill the process, find by halving which.

    The one that does is tried once more without being timed, for what else is known of it.
    """
    code = pool.session(runs, entry.measure_session, ({run.id: found[run.id] for run in runs},))
    done = pool.store.ids()
    left = [run for run in runs if run.id not in done]
    for run in runs:
        if run.id in done:
            pool.report(run)
    if code in (0, entry.BUSY, entry.UNWRITTEN):
        for run in left:
            if code != entry.UNWRITTEN:
                pool.watcher.finished(run, "elsewhere", ELSEWHERE)
        return
    if not left:
        return
    if len(left) > 1:
        half = len(left) // 2
        time_together(pool, left[:half], found)
        time_together(pool, left[half:], found)
        return
    (run,) = left
    tried = found[run.id]
    if THROUGHPUT in run.measure.instruments and THROUGHPUT not in tried:
        tried[THROUGHPUT] = Found("failed", describe_exit(code), pool.log_tail(run))
        if any(one.metrics is not None for one in tried.values()):
            time_together(pool, left, found)
            return
    pool.leave_row(run, "failed", describe_exit(code))


def sessions(runs: Sequence[Run]) -> Iterator[list[Run]]:
    """Groups of equal resources and settings; the cells of a task and a length stay together."""
    alike: dict[tuple[str, str], list[Run]] = defaultdict(list)
    for run in runs:
        alike[run.resources.model_dump_json(), run.measure.model_dump_json()].append(run)
    for group in alike.values():
        group.sort(key=lambda run: (str(run.task), run.length))
        for start in range(0, len(group), SESSION_CELLS):
            yield group[start : start + SESSION_CELLS]
