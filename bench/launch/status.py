"""What became of every cell of a study so far: by its rows, its workers' claims, and the queue.

A cell with a row is `done` if the row is ok, or of the row's status. One without a row is

running     a process has claimed it and lives
lost        the process that had claimed it is gone, and nothing will take the cell up by itself
requeued    it was begun, and goes on once the queue, or the next sweep, comes to it
pending     nobody has begun it

The rows are the truth. What the queue does not tell, or the work folder, is said and not guessed.
"""

from __future__ import annotations

import os
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from statistics import fmean as mean
from typing import TypeAlias, TypeVar

from bench.launch import claim
from bench.launch.slurm.queue import Task
from bench.launch.slurm.submission import on_the_way
from bench.records import checkpoints
from bench.records.row import STATUSES
from bench.records.store import Ending, Store
from bench.spec import Run
from bench.study import Study

STATES = ("done", "running", "requeued", "pending", "lost", *STATUSES[1:])
"""In the order in which they are printed."""
GOES_ON = "goes on from its checkpoint with the next sweep"
UNFINISHED = ("running", "requeued", "pending", "lost")

Found = TypeVar("Found")

Kind: TypeAlias = tuple[str, str, str, int]
"""Runs that take about equally long: purpose, architecture, task, length."""


@dataclass(frozen=True, slots=True)
class Cell:
    """A cell and what became of it."""

    run: Run
    state: str  # one of STATES
    reason: str = ""
    where: str = ""  # the process, the job
    since_unix_s: float | None = None  # when the process that is at it, or was, began
    seconds: float | None = None  # that it took


@dataclass
class Overview:
    """All cells of a study, in its order."""

    study: Study
    cells: list[Cell]
    n_foreign: int = 0  # rows of no run of the study
    problems: list[str] = field(default_factory=list)  # what could not be read or asked

    def counts(self) -> dict[str, int]:
        """How many cells are in each state."""
        counted = Counter(cell.state for cell in self.cells)
        return {state: counted[state] for state in STATES if counted[state]}

    def having(self, state: str) -> list[Cell]:
        """The cells in a state."""
        return [cell for cell in self.cells if cell.state == state]


def overview(study: Study, store: Store) -> Overview:
    """Look at everything once; nothing is written and nobody is disturbed."""
    endings, unreadable = store.endings()
    problems = [str(problem) for problem in unreadable]
    work = store.folder / "work"
    nobody: dict[str, claim.Standing] = {}
    standings = _asked(lambda: dict(claim.standing(work)), nobody, "what runs is unknown", problems)
    ids = {run.id for run in study.runs}
    missing = ids - endings.keys()
    none: set[str] = set()
    begun = _asked(lambda: _begun(store, missing), none, "what was begun is unknown", problems)
    queued = on_the_way(store.folder, missing)
    if queued.problem:
        problems.append(f"{queued.problem}; what is in the queue is unknown")
    cells = [
        _of_row(run, endings[run.id])
        if run.id in endings
        else _without_row(run, standings.get(run.id), run.id in begun, queued.tasks.get(run.id))
        for run in study.runs
    ]
    n_foreign = len(endings.keys() - ids)
    return Overview(study, cells, n_foreign, problems)


def seconds_to_go(cells: Iterable[Cell]) -> float | None:
    """When all will be done at the present pace; None as long as nothing tells.

    Cells take as long as those of their kind took, or as all did, and as many run at once as now.
    """
    cells = list(cells)
    took: dict[Kind, list[float]] = defaultdict(list)
    for cell in cells:
        if cell.seconds is not None:
            took[_kind(cell.run)].append(cell.seconds)
    everything = [seconds for found in took.values() for seconds in found]
    running = [cell for cell in cells if cell.state == "running"]
    if not everything or not running:
        return None
    usual = mean(everything)
    means = {kind: mean(found) for kind, found in took.items()}
    now, left = time.time(), 0.0
    for cell in cells:
        if cell.state in UNFINISHED:
            needed = means.get(_kind(cell.run), usual)
            spent = now - (cell.since_unix_s or now) if cell.state == "running" else 0.0
            left += max(0.0, needed - spent)
    return left / len(running)


def _kind(run: Run) -> Kind:
    return run.purpose, run.architecture.name, run.task.name, run.length


def _of_row(run: Run, ending: Ending) -> Cell:
    state = "done" if ending.status == "ok" else ending.status
    return Cell(run, state, ending.reason, seconds=ending.seconds)


def _without_row(run: Run, standing: claim.Standing | None, begun: bool, task: Task | None) -> Cell:
    job = "" if task is None else _job(task)
    reason = "" if task is None else task.reason
    if standing is None and begun:
        return Cell(run, "requeued", GOES_ON if task is None else reason, job)
    if standing is None:
        return Cell(run, "pending", reason, job)
    held = standing.claim
    since = None if held is None else held.started_at_unix_s
    if standing.alive:
        return Cell(run, "running", "", _process(held), since)
    if task is not None:  # its job starts again, or has and comes to it in turn
        return Cell(run, "requeued", reason, job, since)
    return Cell(run, "lost", "its process ended and left no row", _process(held), since)


def _process(held: claim.Claim | None) -> str:
    """`node7 process 1234, job 88_3`."""
    if held is None:
        return "somewhere: its claim cannot be read"
    job = f", job {held.slurm_job_id}" if held.slurm_job_id else ""
    again = f", restart {held.restart}" if held.restart else ""
    return f"{held.host} process {held.pid}{job}{again}"


def _job(task: Task) -> str:
    """`job 88_3 (pending)`."""
    index = "" if task.index is None else f"_{task.index}"
    nodes = f" on {task.nodes}" if task.nodes else ""
    return f"job {task.job_id}{index}{nodes} ({task.state})"


def _begun(store: Store, missing: set[str]) -> set[str]:
    """Those of the runs that have a checkpoint."""
    folder = checkpoints.folder_of(store.folder, "any").parent
    if not folder.exists():
        return set()
    names = missing & set(os.listdir(folder))  # noqa: PTH208 (names alone: there may be thousands)
    return {name for name in names if checkpoints.found(folder / name)}


def _asked(
    look: Callable[[], Found], otherwise: Found, consequence: str, problems: list[str]
) -> Found:
    try:
        return look()
    except OSError as error:
        problems.append(f"cannot read {error.filename}: {error.strerror}; {consequence}")
        return otherwise
