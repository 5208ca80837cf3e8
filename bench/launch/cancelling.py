"""Taking the jobs of a study out of Slurm's queue. What they have written stays."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from bench.errors import UserError
from bench.launch import claim
from bench.launch.slurm import queue
from bench.launch.slurm.submission import submissions


def cancel(folder: Path) -> Iterator[str]:
    """Cancel every job of a study that is not ended, the ones that pack first; a line for each.

    Raises:
        UserError: Slurm cannot be asked, or does not do it; in its own words.
    """
    submitted = submissions(folder)
    place_of = {job_id: place for place, one in submitted.items() for job_id in one.job_ids}
    packing = {one.pack_job_id for one in submitted.values()}
    live = queue.live_tasks(place_of.keys())
    if live.problem:
        raise UserError(f"cannot ask Slurm what to cancel: {live.problem}")
    alive = {task.job_id for task in live.tasks}
    # The packing waits for the others to end, however they do: it would begin.
    for job_id in sorted(alive, key=lambda job_id: (job_id not in packing, job_id)):
        if not _works_in(job_id, place_of[job_id]):
            yield f"job {job_id} is left alone: Slurm has given its number to another one since"
            continue
        _ask(["scancel", str(job_id)])
        n_tasks = sum(task.job_id == job_id for task in live.tasks)
        yield f"job {job_id} cancelled" + (f", {n_tasks} tasks" if n_tasks > 1 else "")
    if not alive:
        yield f"no job of {folder} is in the queue"
    for run_id, found in claim.standing(folder / "work"):
        if found.alive and found.claim is not None and found.claim.slurm_job_id is None:
            where = f"{found.claim.host} process {found.claim.pid}"
            yield f"{run_id} runs outside of Slurm, on {where}: end that `bench sweep` with Ctrl-C"


def _works_in(job_id: int, folder: Path) -> bool:
    """Whether a job was submitted from this folder: a cluster that is set up anew counts anew."""
    said = _ask(["scontrol", "show", "job", str(job_id), "--oneliner"])
    if f" WorkDir={folder.absolute()} " in said:
        return True
    found = re.search(r" WorkDir=(.*?) Std(?:Err|In|Out)=", said)  # another name of the folder
    return found is not None and Path(found[1]).resolve() == folder.resolve()


def _ask(words: list[str]) -> str:
    answer = queue.ask(words)
    if answer.problem:
        raise UserError(f"{words[0]} says: {answer.problem}")
    return answer.output
