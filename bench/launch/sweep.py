"""A sweep: the runs of a study that have no row yet, on this machine.

Training runs share the machine; measuring runs have it alone, after the others. A lock on the
machine keeps two sweeps from measuring beside each other's training.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

from bench.errors import UserError
from bench.launch import entry, machine, measuring
from bench.launch.pool import Pool, Watcher
from bench.records.provenance import provenance
from bench.records.store import Store
from bench.spec import Run
from bench.study import Study
from bench.switches import check_switches


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


def plan(study: Study, store: Store, *, cluster: bool = False) -> Plan:
    """The runs that have no row yet, to be launched on this machine or on a `cluster`.

    Raises:
        UserError: a row cannot be read, or a run is more than this machine can launch.
    """
    done = store.statuses().keys()
    for run in study.runs:
        if run.resources.nodes > 1 and not cluster:
            raise UserError(f"{run}: resources.nodes is {run.resources.nodes}, and this is one")
    missing = [run for run in study.runs if run.id not in done]
    return Plan(
        train=tuple(run for run in missing if run.purpose == "train"),
        measure=tuple(run for run in missing if run.purpose == "measure"),
        done=len(study.runs) - len(missing),
    )


def sweep(
    study_name: str,
    store: Store,
    planned: Plan,
    n_workers: int,
    watcher: Watcher,
    trackers: tuple[str, ...] = (),
) -> None:
    """Run what is planned; every run leaves a row. Those that train are shown in `trackers`, too.

    Raises:
        UserError: the folder of the rows, or a row, cannot be written, or a variable of the
            environment is not one of its choices.
        Stopped: a signal ended it; runs that had begun have left a checkpoint.
    """
    check_switches()
    make_writable(store.folder)
    pool = Pool(store, study_name, provenance(), watcher, trackers=trackers)
    with pool.heeding_signals():
        with machine.shared(watcher.waiting):
            pool.each(planned.train, n_workers, entry.train)
        measuring.measure(pool, planned.measure, n_workers, watcher)
    for reason in pool.unwritten.values():
        cells = f"{len(pool.unwritten)} cell{'s'[: len(pool.unwritten) != 1]}"
        raise UserError(f"{reason}; {cells} without a row: the same command runs them again")


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
