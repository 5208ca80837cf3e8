"""What a node does for a submitted sweep: `bench work PLAN INDEX`, the cells of one element.

They run as in a sweep on one machine, one at a time. A cell of several nodes has this process on
each of them, and each starts the cell's processes of its own node.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable
from pathlib import Path

from bench.errors import UserError
from bench.launch import entry, machine, measuring
from bench.launch.burial import bury, log_tail
from bench.launch.entry import BUSY, REQUEUE
from bench.launch.place import Place
from bench.launch.pool import Pool, describe_exit
from bench.launch.progress import Progress
from bench.launch.slurm import submission
from bench.launch.slurm.script import RERUN
from bench.launch.slurm.submission import PlanHeader
from bench.launch.slurm.submit import digest
from bench.launch.sweep import make_writable
from bench.records.provenance import provenance, requeues
from bench.records.store import Store
from bench.spec import Run
from bench.study import load
from bench.switches import check_switches


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
    if requeues() > header.max_requeues:
        give_up(header, store, left)
        return 0
    place = _place(plan)
    with Progress(len(left), len(wanted) - len(left), 1) as progress:
        pool = Pool(store, header.study, provenance(), progress, place)
        with machine.shared(progress.waiting):
            pool.each([run for run in left if run.purpose == "train"], 1, entry.train)
        if pool.stopping is None:
            to_measure = [run for run in left if run.purpose == "measure"]
            measuring.measure(pool, to_measure, 1, progress)
    if pool.stopping is not None:
        return REQUEUE
    # A cell of several nodes: one that has no row may yet get one from another node.
    lost = place.n_nodes > 1 and without_row(store, left)
    return entry.PEER_LOST if lost else 0


def settle(plan: Path, index: int, code: int) -> int:
    """See to the cell at which a job step ended badly, with this exit code, and left no row.

    The answer is what the batch script is to do: end (0), begin the step again (RERUN), or be
    requeued (REQUEUE).
    """
    header, runs = submission.read_plan(plan, index)
    store = Store(header.folder)
    left = without_row(store, still_wanted(header, runs))
    if not left or code == BUSY:
        return 0
    begun = [run for run in left if entry.log_file(store.folder, run.id).exists()]
    if not begun:  # not the fault of any cell
        return code
    run, text = begun[0], describe_exit(-(code - 128) if code > 128 else code)
    starved = code == 128 + signal.SIGKILL or "out of memory" in log_tail(store, run).lower()
    bury(
        store,
        header.study,
        provenance(),
        run,
        "oom" if starved else "failed",
        f"the job step ended badly: {text}",
    )
    return RERUN if len(left) > 1 else 0


def give_up(header: PlanHeader, store: Store, runs: Iterable[Run]) -> None:
    """Leave rows for cells whose job was requeued too often."""
    found = provenance()
    for run in runs:
        reason = f"given up after {header.max_requeues} requeues (max_requeues of the profile)"
        bury(store, header.study, found, run, "preempted", reason)
        print(f"preempted  {run}  {reason}")


def still_wanted(header: PlanHeader, runs: list[Run]) -> list[Run]:
    """The runs that the study still asks for: it may have been edited since it was submitted."""
    try:
        unchanged = digest(header.study_file) == header.study_digest
        asked = None if unchanged else {run.id for run in load(header.study_file).runs}
    except UserError as error:
        raise UserError(f"the study was changed since it was submitted: {error}") from None
    if asked is None:
        return runs
    wanted = [run for run in runs if run.id in asked]
    if n_dropped := len(runs) - len(wanted):
        print(f"{n_dropped} cells left out: the study was changed since it was submitted")
    return wanted


def without_row(store: Store, runs: Iterable[Run]) -> list[Run]:
    """Those that are still to be done."""
    done = store.ids()
    return [run for run in runs if run.id not in done]


def _place(plan: Path) -> Place:
    """This node among those of the job step."""
    n_nodes = int(os.environ.get("SLURM_NTASKS", "1"))
    if n_nodes == 1:
        return Place()
    job = "_".join(
        os.environ.get(f"SLURM_{key}", "0")
        for key in ("ARRAY_JOB_ID", "ARRAY_TASK_ID", "RESTART_COUNT", "STEP_ID")
    )
    return Place(int(os.environ["SLURM_PROCID"]), n_nodes, plan.absolute().parent / f"{job}.address")
