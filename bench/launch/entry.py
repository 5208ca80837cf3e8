"""What a worker process does: one run, or one measurement, and then it ends.

A worker is forked from a server that has imported everything, so that an out-of-memory or a crash
costs one row and imports are paid once. The heavy imports stand inside the functions because the
launcher imports this module to name them.
"""

from __future__ import annotations

import faulthandler
import importlib
import json
import os
import resource
import signal
import sys
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NoReturn

from bench.errors import UserError
from bench.launch import claim
from bench.launch.autopsy import hung, last_words, lost_peer
from bench.measure.instruments import INSTRUMENTS, Found
from bench.process import data_bytes, die_with_parent, say
from bench.records import checkpoints
from bench.records.row import Row
from bench.records.store import Store
from bench.spec import Run
from bench.trackers import choice
from bench.training import interrupts, watchdog

PRELOAD = [
    "bench.training.execute",
    "bench.measure.session",
    *(instrument.module for instrument in INSTRUMENTS.values()),
]
"""Modules that the server imports before it forks."""

BUSY = claim.BUSY

REQUEUE = 75
"""Exit code of a worker that was asked to leave: its run goes on later (EX_TEMPFAIL)."""

RANKS_S = 1.0
"""How long rank 0 of a run that failed waits for what the others have to say."""

TRACKER_BYTES = 32 << 20
"""What a tracker's threads and buffers take, which is not to be taken from the run's share."""

UNWRITTEN = 74
"""Exit code of a worker that could not write its row (EX_IOERR)."""

PEER_LOST = 79
"""Exit code of a rank that no longer hears the ranks of another node: its run goes on later."""


@dataclass(frozen=True)
class Place:
    """Where a process stands among the ranks of its run, and where they meet."""

    rank: int = 0
    local_rank: int = 0  # on its node
    world_size: int = 1
    address: str = "127.0.0.1"
    port: int = 0


@dataclass(frozen=True)
class Job:
    """Plain data that a worker needs."""

    runs: tuple[str, ...]  # JSON
    study: str
    folder: Path  # of the rows
    provenance: dict[str, Any]
    memory_bytes: int | None = None  # limit on the process's data; None: none
    place: Place = Place()
    trackers: tuple[str, ...] = ()


def log_file(folder: Path, run_id: str, rank: int = 0) -> Path:
    """Where a rank of a run's worker prints; the run's lock is on that of rank 0 too."""
    return folder / "work" / (f"{run_id}.log" if rank == 0 else f"{run_id}.rank{rank}.log")


def train(job: Job) -> None:
    """Train one run and leave its row; or leave a checkpoint, if a signal asks for it."""
    interrupts.install()
    run = _begin(job, len(job.trackers) * TRACKER_BYTES)
    watchdog.arm(run.resources.hang_s)
    from bench.training.allocator import keep_freed_memory
    from bench.training.execute import execute

    rank, ranks = job.place.rank, job.place.world_size
    provenance = {**job.provenance, "world_size": ranks, "allocator": keep_freed_memory()}
    followers = choice.followers(job.trackers if rank == 0 else (), job.folder)
    try:
        folder = checkpoints.folder_of(job.folder, run.id)
        row = execute(run, job.study, provenance, folder, followers)
    except interrupts.Interrupted:
        followers.leave()
        number = interrupts.requested()
        say(f"asked to leave by {signal.Signals(number).name if number else 'another rank'}")
        _leave(REQUEUE)
    several_nodes = ranks > run.resources.devices
    if several_nodes and row.status == "failed" and lost_peer(row.reason):
        say(f"rank {rank} of {ranks}: {row.reason}")
        followers.leave()
        _leave(PEER_LOST)  # a node may have died; if a rank had a reason of its own, it says so
    if several_nodes and rank > 0 and row.status != "ok" and not Store(job.folder).has(run.id):
        _write(job.folder, row)
    if rank == 0:
        row = row if ranks == 1 else _with_other_ranks(row, job)
        _write(job.folder, row)
        checkpoints.forget(job.folder, run.id)
        claim.release(log_file(job.folder, run.id))
    elif row.status != "ok":
        say(f"rank {rank} of {ranks}: {row.status}: {row.reason}\n{row.log_tail}")
    watchdog.disarm()
    if rank == 0 and job.trackers:
        followers.end(row)
        _leave(0)  # what a tracker has begun may not end by itself
    sys.stdout.flush()


def measure_alone(job: Job, instrument: str, result: Path) -> None:
    """Let one instrument measure one run, and leave what became of it in the file `result`."""
    run = _begin(job)
    from bench.records.files import write_atomically
    from bench.training.allocator import keep_freed_memory
    from bench.training.execute import Outcome

    if INSTRUMENTS[instrument].timed:
        keep_freed_memory()  # as in the process that times throughput
    outcome = Outcome(run, job.study, job.provenance)
    metrics = None
    with outcome.recorded():
        metrics = importlib.import_module(INSTRUMENTS[instrument].module).measure(run)
    found = Found(outcome.status, outcome.reason, outcome.log_tail, metrics)
    write_atomically(result, json.dumps(asdict(found)).encode())
    claim.release(log_file(job.folder, run.id))


def measure_session(job: Job, alone: dict[str, dict[str, Found]]) -> None:
    """Measure the throughput of several runs side by side and leave their rows.

    `alone` has what each of the other instruments found before, by run id.
    """
    _begin(job)
    from bench.measure import session
    from bench.training.allocator import keep_freed_memory

    provenance = {**job.provenance, "allocator": keep_freed_memory()}
    runs = [Run.model_validate_json(text) for text in job.runs]
    taken = [runs[0], *(run for run in runs[1:] if _take_too(job.folder, run))]
    for row in session.measure(taken, job.study, provenance, alone):
        _write(job.folder, row)
        claim.release(log_file(job.folder, row.id))


def _with_other_ranks(row: Row, job: Job) -> Row:
    """Of a run that failed, what other ranks said too: this one may have seen their end alone."""
    if row.status != "failed":
        return row
    time.sleep(RANKS_S)
    run_id, ranks = row.id, range(job.place.world_size)
    logs = [log_file(job.folder, run_id, rank) for rank in ranks]
    said = {"log_tail": f"{row.log_tail}\n{last_words(logs)}"}
    if hung(logs):
        said["reason"] = f"a rank did nothing for resources.hang_s: see the log ({row.reason})"
    return row.model_copy(update=said)


def _write(folder: Path, row: Row) -> None:
    """Leave the row; without it, the run is to be done again."""
    try:
        Store(folder).write(row)
    except UserError as error:
        say(str(error))
        _leave(UNWRITTEN)


def _leave(code: int) -> NoReturn:
    """End this process with a code, even if what it printed cannot be written."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError):
            stream.flush()
    os._exit(code)


def _begin(job: Job, spare_bytes: int = 0) -> Run:
    """Set the process up for its first run: log, lock, limits, threads.

    `spare_bytes` are for what is no part of the run, and go beyond the limit on its memory.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the launcher's to handle
    for number in interrupts.SIGNALS:  # the server that forks the workers is deaf to them
        if signal.getsignal(number) == signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)
    die_with_parent()
    run = Run.model_validate_json(job.runs[0])
    place = job.place
    log = log_file(job.folder, run.id, place.rank)
    # Stays open until the process ends, and the lock with it.
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    if place.rank == 0:
        if not claim.take(descriptor, log):
            os._exit(BUSY)
        if run.id in Store(job.folder).ids():
            claim.release(log)
            os._exit(0)  # another launcher's worker did it since ours looked
    os.ftruncate(descriptor, 0)
    # Opened again: programs that this process starts share its output, and may outlive its lock.
    output = os.open(log, os.O_WRONLY | os.O_APPEND)
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.close(output)
    faulthandler.enable()
    if job.memory_bytes is not None:
        limit = data_bytes() + job.memory_bytes + spare_bytes
        resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    if place.world_size > 1:
        os.environ |= {
            "RANK": str(place.rank),
            "LOCAL_RANK": str(place.local_rank),
            "GROUP_RANK": str(place.rank // run.resources.devices),
            "WORLD_SIZE": str(place.world_size),
            "MASTER_ADDR": place.address,
            "MASTER_PORT": str(place.port),
        }
    import torch

    torch.set_num_threads(run.resources.threads)
    return run


def _take_too(folder: Path, run: Run) -> bool:
    """Take another run than the process's first one; its log stays empty."""
    log = log_file(folder, run.id)
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    if not claim.take(descriptor, log):
        os.close(descriptor)
        return False
    if Store(folder).has(run.id):
        claim.release(log)
        return False
    return True
