"""A sweep: the runs of a study that have no row yet, on this machine.

Training runs share the machine; measuring runs have it alone, after the others. A lock on the
machine keeps two sweeps from measuring beside each other's training.
"""

from __future__ import annotations

import fcntl
import json
import os
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.errors import UserError
from bench.launch import entry
from bench.launch.pool import Pool, Watcher, describe_exit
from bench.records.provenance import provenance
from bench.records.store import Store
from bench.spec import Run
from bench.study import Study
from bench.switches import check_switches

SESSION_CELLS = 64
"""Cells that are timed in one process: more of them would crowd its memory."""


@dataclass(frozen=True)
class Plan:
    """What a sweep would do."""

    train: tuple[Run, ...]
    measure: tuple[Run, ...]
    done: int

    @property
    def missing(self) -> int:
        """Runs without a row."""
        return len(self.train) + len(self.measure)


def plan(study: Study, store: Store) -> Plan:
    """The runs that have no row yet.

    Raises:
        UserError: a row cannot be read, or a run is more than this machine can launch.
    """
    done = store.statuses().keys()
    for run in study.runs:
        if run.resources.nodes > 1:
            raise UserError(f"{run}: resources.nodes is {run.resources.nodes}, and this is one")
    missing = [run for run in study.runs if run.id not in done]
    return Plan(
        train=tuple(run for run in missing if run.purpose == "train"),
        measure=tuple(run for run in missing if run.purpose == "measure"),
        done=len(study.runs) - len(missing),
    )


def sweep(study_name: str, store: Store, planned: Plan, n_workers: int, watcher: Watcher) -> None:
    """Run what is planned; every run leaves a row.

    Raises:
        UserError: the folder of the rows cannot be written, or a variable of the environment is
            not one of its choices.
    """
    check_switches()
    make_writable(store.folder)
    pool = Pool(store, study_name, provenance(), watcher)
    with _machine(fcntl.LOCK_SH, watcher):
        pool.each(planned.train, n_workers, entry.train)
        memory = _measure_memory(pool, store, planned.measure, n_workers)
    done = store.ids()
    if timed := [run for run in planned.measure if run.id not in done]:
        with _machine(fcntl.LOCK_EX, watcher):
            for group in _sessions(timed):
                _time(pool, store, group, memory)


def make_writable(folder: Path) -> None:
    """Make the folders that workers write to.

    Raises:
        UserError: they cannot be made or written.
    """
    try:
        for name in ("rows", "work"):
            (folder / name).mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder / name):
                pass
    except OSError as error:
        raise UserError(f"cannot write to {folder}: {error.strerror}") from None


def _measure_memory(
    pool: Pool, store: Store, runs: Sequence[Run], n_workers: int
) -> dict[str, dict[str, Any]]:
    """Peak memory by run id, each in a fresh process; a run that fails has a row instead."""

    def result(run: Run) -> Path:
        return (store.folder / "work" / f"{run.id}.memory.json").resolve()

    wanted = [run for run in runs if "memory" in run.measure.instruments]
    pool.each(wanted, n_workers, entry.measure_memory, lambda run: (result(run),))
    done = store.ids()
    measured: dict[str, dict[str, Any]] = {}
    for run in wanted:
        if run.id not in done and result(run).exists():
            measured[run.id] = json.loads(result(run).read_text())
            result(run).unlink()
    return measured


def _time(pool: Pool, store: Store, runs: list[Run], memory: dict[str, dict[str, Any]]) -> None:
    """Time runs together; should that kill the process, find out which by halving."""
    code = pool.session(runs, entry.measure_session, (memory,))
    done = store.ids()
    left = [run for run in runs if run.id not in done]
    for run in runs:
        if run.id in done:
            pool.report(run)
    if len(left) == 1 and code not in (0, entry.BUSY):
        pool.leave_row(left[0], "failed", describe_exit(code))
    elif left and code not in (0, entry.BUSY):
        half = len(left) // 2
        _time(pool, store, left[:half], memory)
        _time(pool, store, left[half:], memory)


def _sessions(runs: Sequence[Run]) -> Iterator[list[Run]]:
    """Groups of equal resources and settings; the cells of a task and a length stay together."""
    alike: dict[tuple[str, str], list[Run]] = defaultdict(list)
    for run in runs:
        alike[run.resources.model_dump_json(), run.measure.model_dump_json()].append(run)
    for group in alike.values():
        group.sort(key=lambda run: (str(run.task), run.length))
        for start in range(0, len(group), SESSION_CELLS):
            yield group[start : start + SESSION_CELLS]


@contextmanager
def _machine(mode: int, watcher: Watcher) -> Iterator[None]:
    """Share this machine with the user's other sweeps that train, or have it alone to measure."""
    path = Path(tempfile.gettempdir()) / f"seqbench-machine-{os.getuid()}.lock"
    descriptor = os.open(path, os.O_RDONLY | os.O_CREAT, 0o600)
    try:
        try:
            fcntl.flock(descriptor, mode | fcntl.LOCK_NB)
        except BlockingIOError:
            watcher.waiting("another sweep has this machine; waiting for it")
            fcntl.flock(descriptor, mode)
        yield
    finally:
        os.close(descriptor)
