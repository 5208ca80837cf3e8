"""What was submitted for a study: `work/slurm/<stamp>/`, and which of its cells are still to come.

plan-<n>.jsonl      the n-th job array: a line about the study, then a line per element, its runs
element-<n>.sbatch  the script of that array
pack.sbatch         the script of the job that packs the rows
submission.json     which jobs these are; written anew after each of them is submitted
<job>_<task>.log    what a job printed
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from bench.errors import UserError
from bench.launch.slurm import queue
from bench.records.files import write_atomically
from bench.spec import Run, Spec

RUNS = TypeAdapter(list[Run])


class PlanHeader(Spec):
    """The first line of a plan: what all its elements share."""

    study: str  # its name
    folder: Path
    study_file: Path
    study_digest: str
    max_requeues: int
    trackers: tuple[str, ...] = ()


class SubmittedArray(Spec):
    """A job array, and which runs each of its tasks has."""

    job_id: int
    shape: str
    elements: tuple[tuple[str, ...], ...]  # ids of runs, by index


class Submission(Spec):
    """What one `bench sweep --slurm` has submitted."""

    study_digest: str
    profile: str
    submitted_at_unix_s: float
    arrays: tuple[SubmittedArray, ...] = ()
    pack_job_id: int | None = None

    @property
    def job_ids(self) -> set[int]:
        """Of the arrays and the packing."""
        packing = set() if self.pack_job_id is None else {self.pack_job_id}
        return {array.job_id for array in self.arrays} | packing

    def cells(self) -> Iterator[tuple[str, int, int]]:
        """Each run's id, the array that has it, and the index there."""
        for array in self.arrays:
            for index, ids in enumerate(array.elements):
                for run_id in ids:
                    yield run_id, array.job_id, index


def folder_of(study_folder: Path) -> Path:
    """Where the submissions of a study lie."""
    return study_folder / "work" / "slurm"


def submissions(study_folder: Path) -> dict[Path, Submission]:
    """Those of a study by their folder, oldest first; what cannot be read is left out."""
    found = {}
    for file in sorted(folder_of(study_folder).glob("*/submission.json")):
        try:
            found[file.parent] = Submission.model_validate_json(file.read_bytes())
        except (OSError, ValidationError):
            continue  # of another version; its jobs are guarded by the lock on each cell
    return found


@dataclass(frozen=True)
class OnTheWay:
    """Cells that live jobs will do, or are doing; with a problem, nobody knows."""

    tasks: dict[str, queue.Task]  # by the run's id
    problem: str = ""


def on_the_way(study_folder: Path, missing: set[str]) -> OnTheWay:
    """Which of the missing cells a job has that Slurm has not ended."""
    cells: dict[tuple[int, int], list[str]] = {}
    for submission in submissions(study_folder).values():
        for run_id, job_id, index in submission.cells():
            if run_id in missing:
                cells.setdefault((job_id, index), []).append(run_id)
    live = queue.live_tasks({job_id for job_id, _ in cells})
    tasks = {
        run_id: task
        for task in live.tasks
        if task.index is not None
        for run_id in cells.get((task.job_id, task.index), [])
    }
    return OnTheWay(tasks, live.problem)


def digest(file: Path) -> str:
    """Of a study's file, to see whether it was edited.

    Raises:
        UserError: it cannot be read.
    """
    try:
        return hashlib.sha256(file.read_bytes()).hexdigest()
    except OSError as error:
        raise UserError(f"cannot read {file}: {error.strerror}") from None


def write(folder: Path, submission: Submission) -> None:
    """Leave `submission.json`."""
    write_atomically(folder / "submission.json", f"{submission.model_dump_json()}\n".encode())


def write_plan(file: Path, header: PlanHeader, elements: Iterable[Sequence[Run]]) -> None:
    """Leave the plan of one job array."""
    lines = [header.model_dump_json()]
    for runs in elements:
        lines.append(f"[{','.join(run.model_dump_json() for run in runs)}]")
    write_atomically(file, "".join(f"{line}\n" for line in lines).encode())


def read_plan(file: Path, index: int) -> tuple[PlanHeader, list[Run]]:
    """The header of a plan and the runs of one element.

    Raises:
        UserError: this machine does not see the file, or it is no plan, or has no such element.
    """
    try:
        with file.open("rb") as lines:
            header = PlanHeader.model_validate_json(next(lines))
            line = next(itertools.islice(lines, index, None), None)
    except OSError as error:
        raise UserError(
            f"cannot read {file.absolute()}: {error.strerror}; the study has to lie in a folder "
            "that all nodes see"
        ) from None
    except (StopIteration, ValidationError):
        raise UserError(f"{file.absolute()} is no plan of this seqbench; submit again") from None
    if line is None:
        raise UserError(f"{file.absolute()} has no element {index}")
    return header, RUNS.validate_json(line)
