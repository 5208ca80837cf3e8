"""`bench sweep STUDY --slurm PROFILE`: the cells that have no row yet, as jobs of a cluster."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from bench.commands.shared import check_runs

if TYPE_CHECKING:
    from bench.launch.slurm.shapes import Array
    from bench.launch.slurm.submit import Request
    from bench.records.store import Store
    from bench.spec import Run
    from bench.study import Study


def sweep_on_slurm(
    study: Path, profile: str, *, dry_run: bool, trackers: tuple[str, ...] = ()
) -> None:
    """Submit the missing cells of a study, or print what would be submitted."""
    from bench.launch.slurm import profile as profiles
    from bench.records.store import Store
    from bench.study import load

    profiles.load(profile)  # before the study, whose check takes seconds
    loaded = load(study)
    store = Store(loaded.folder)
    done = store.statuses().keys()
    missing = [run for run in loaded.runs if run.id not in done]
    if not missing:
        print(f"0 cells to submit, {len(loaded.runs)} done")
        return
    submit_runs(study, loaded, store, missing, profile, dry_run=dry_run, trackers=trackers)


def submit_runs(
    study: Path,
    loaded: Study,
    store: Store,
    runs: Sequence[Run],
    profile: str,
    *,
    dry_run: bool,
    trackers: tuple[str, ...],
) -> None:
    """Submit these runs of a study, except those that live jobs have already.

    Raises:
        UserError: a run could not be built, or the cluster refuses; nothing is submitted then.
    """
    from bench.launch.slurm import profile as profiles
    from bench.launch.slurm import queue, submission, submit
    from bench.launch.sweep import make_writable
    from bench.records import files
    from bench.study import STUDY_FILE

    read = profiles.load(profile)
    file = study / STUDY_FILE if study.is_dir() else study
    check_runs(study, runs)
    folder = submission.folder_of(loaded.folder)
    if not dry_run:
        make_writable(loaded.folder)
        folder.mkdir(parents=True, exist_ok=True)

    def asked() -> Request:
        ahead = submission.on_the_way(loaded.folder, {run.id for run in runs})
        if ahead.problem:
            print(f"cells may be on their way already, {ahead.problem}; none of them runs twice")
        elif ahead.tasks:
            print(f"{len(ahead.tasks)} cells are on their way already")
        left = [run for run in runs if run.id not in ahead.tasks]
        size = queue.max_array_size()
        return submit.request(loaded, file, read, profile, left, store.rows(), size, trackers)

    if dry_run:
        _describe(asked())
        return
    with files.exclusive(folder):  # two who submit the same at once
        request = asked()
        if not request.arrays:
            print("nothing to submit")
            return
        submit.check(request)
        done = submit.submit(request, print)
    for submitted, array in zip(done.arrays, request.arrays, strict=True):
        print(f"job {submitted.job_id}: {_counted(array)}")
    if done.pack_job_id is not None:
        print(f"job {done.pack_job_id}: packs the rows when the others have ended")
    print(f"`bench status {shlex.quote(str(study))}` tells how they fare")


def _describe(request: Request) -> None:
    """Print the scripts, each with what it would do."""
    for array, script in zip(request.arrays, request.scripts(), strict=True):
        print(f"# {_counted(array)}\n{script}")
    if request.arrays:
        print(f"# packs the rows when the others have ended\n{request.pack_script()}")
    cells = sum(array.n_cells for array in request.arrays)
    jobs = sum(len(array.elements) for array in request.arrays)
    print(f"{cells} cells to submit, in {jobs} jobs of {len(request.arrays)} arrays")


def _counted(array: Array) -> str:
    """`60 cells in 4 jobs of about 12 minutes (1 thread)`."""
    n = len(array.elements)
    minutes = sum(element.seconds for element in array.elements) / n / 60
    jobs = f"{n} job{'s'[: n != 1]}"
    cells = f"{array.n_cells} cell{'s'[: array.n_cells != 1]}"
    return f"{cells} in {jobs} of about {minutes:.3g} minutes ({array.shape})"
