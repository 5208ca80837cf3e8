"""What a node does for a submitted sweep: `bench work PLAN INDEX`, the cells of one element.

They run as in a sweep on one machine, one at a time. A cell of several nodes has this process on
each of them, and each starts the cell's processes of its own node.
"""

from __future__ import annotations

import re
import signal
import time
from collections.abc import Iterable
from pathlib import Path

from bench.errors import UserError
from bench.launch import entry, machine, measuring
from bench.launch.autopsy import describe_exit
from bench.launch.entry import BUSY, REQUEUE, UNWRITTEN
from bench.launch.pool import Pool, local_places
from bench.launch.progress import Progress
from bench.launch.slurm import submission
from bench.launch.slurm.meeting import NobodyCameError, this_node
from bench.launch.slurm.script import RERUN
from bench.launch.slurm.submission import PlanHeader, digest
from bench.launch.stopping import Stopped
from bench.launch.sweep import make_writable
from bench.records.provenance import provenance, requeues, slurm_job_id
from bench.records.store import Store
from bench.spec import Run
from bench.study import load
from bench.switches import check_switches

BEGINS = " to run, "
"""Stands in the first line that `work` prints when it has something to do."""
OOM = re.compile(r"oom[-_ ]kill|out[- ]of[- ]memory", re.IGNORECASE)
"""What Slurm prints when the kernel has killed a process of a step for its memory."""
ORPHANS_S = 10.0
"""How often a job that was started again looks whether what is left of its former self ended."""


def work(plan: Path, index: int) -> int:
    """Do the cells of an element that have no row; the answer is the exit code.

    Raises:
        UserError: this node does not see the plan, or cannot write to the study's folder.
    """
    check_switches()
    header, runs = submission.read_plan(plan, index)
    store = Store(header.folder)
    make_writable(store.folder)
    wanted = still_wanted(header, runs)
    left = without_row(store, wanted)
    if not left:
        print(f"0 cells to run, {len(wanted)} done")
        return 0
    node = this_node(plan.absolute().parent)
    with Progress(len(left), len(wanted) - len(left), 1) as progress:
        places = local_places if node is None else node.places
        pool = Pool(
            store, header.study, provenance(), progress, places=places, trackers=header.trackers
        )
        if requeues() > header.max_requeues:
            reason = f"given up after {header.max_requeues} requeues (max_requeues of the profile)"
            for run in left if node is None or node.index == 0 else ():
                pool.leave_row(run, "preempted", reason)
            return 0
        try:
            with pool.heeding_signals():
                _do(pool, left, progress)
        except (Stopped, NobodyCameError) as stopped:
            print(f"goes on later: {stopped}")
            return REQUEUE
    if pool.unwritten:
        return UNWRITTEN
    # On the first node alone: on others, the row of a cell that ended well comes a little later.
    orphaned = node is not None and node.index == 0 and requeues() and _without_row(pool, left)
    return REQUEUE if pool.stopped or orphaned else 0


def _do(pool: Pool, runs: list[Run], progress: Progress) -> None:
    to_train = [run for run in runs if run.purpose == "train"]
    with machine.shared(progress.waiting):
        pool.each(to_train, 1, entry.train)
        # A node that lost its controller works on while its job is started again elsewhere.
        while requeues() and pool.places is local_places and (left := _without_row(pool, to_train)):
            time.sleep(ORPHANS_S)
            pool.each(left, 1, entry.train)
    measuring.measure(pool, [run for run in runs if run.purpose == "measure"], 1, progress)


def _without_row(pool: Pool, runs: list[Run]) -> list[Run]:
    """Runs that some other process is at, since this one has done what it can."""
    known = {run.id for run in pool.stopped} | pool.unwritten.keys()
    return [run for run in without_row(pool.store, runs) if run.id not in known]


def settle(plan: Path, index: int, code: int) -> int:
    """See to the cell at which a job step ended badly, with this exit code, and left no row.

    The answer is what the batch script is to do: end (0), begin the step again (RERUN), let the job
    go on later (REQUEUE), or fail with the step's code.
    """
    header, runs = submission.read_plan(plan, index)
    store = Store(header.folder)
    left = without_row(store, still_wanted(header, runs))
    if not left:
        return 0
    killed = code - 128 if 128 < code < 128 + signal.NSIG else 0
    starved = OOM.search(_said(plan.absolute().parent)) is not None
    if killed == signal.SIGKILL and not starved:  # by somebody, or with its node
        return REQUEUE
    begun = [run for run in left if entry.log_file(store.folder, run.id).exists()]
    if code in (BUSY, UNWRITTEN) or not begun:  # not the fault of any cell
        return code
    run = max(begun, key=lambda run: entry.log_file(store.folder, run.id).stat().st_mtime)
    reason = f"the job step ended badly: {describe_exit(-killed or code)}"
    with Progress(1, len(runs) - len(left), 1) as progress:
        pool = Pool(store, header.study, provenance(), progress)
        pool.leave_row(run, "oom" if starved else "failed", reason)
    return RERUN if len(left) > 1 else 0


def _said(folder: Path) -> str:
    """What this job has printed, and Slurm of it, since it was started for the last time."""
    log = folder / f"{slurm_job_id()}.log"
    text = log.read_text(errors="replace") if log.exists() else ""
    return text.rpartition(BEGINS)[2]


def still_wanted(header: PlanHeader, runs: list[Run]) -> list[Run]:
    """The runs that the study still asks for: it may have been edited since it was submitted."""
    try:
        if digest(header.study_file) == header.study_digest:
            return runs
        asked = {run.id for run in load(header.study_file).runs}
    except UserError as error:
        raise UserError(f"the study was changed since it was submitted: {error}") from None
    wanted = [run for run in runs if run.id in asked]
    if n_dropped := len(runs) - len(wanted):
        print(f"{n_dropped} cells left out: the study was changed since it was submitted")
    return wanted


def without_row(store: Store, runs: Iterable[Run]) -> list[Run]:
    """Those that are still to be done."""
    done = store.ids()
    return [run for run in runs if run.id not in done]
