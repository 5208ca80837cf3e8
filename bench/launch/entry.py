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
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bench.launch import claim
from bench.measure.instruments import INSTRUMENTS, Found
from bench.process import data_bytes, die_with_parent
from bench.records.store import Store
from bench.spec import Run

PRELOAD = [
    "bench.training.execute",
    "bench.measure.session",
    *(instrument.module for instrument in INSTRUMENTS.values()),
]
"""Modules that the server imports before it forks."""

BUSY = claim.BUSY


@dataclass(frozen=True)
class Job:
    """Plain data that a worker needs."""

    runs: tuple[str, ...]  # JSON
    study: str
    folder: Path  # of the rows
    provenance: dict[str, Any]
    memory_bytes: int | None = None  # limit on the process's data; None: none
    rank: int = 0
    world_size: int = 1
    port: int = 0  # where the ranks meet


def log_file(folder: Path, run_id: str) -> Path:
    """Where a run's worker prints; its lock is on this file too."""
    return folder / "work" / f"{run_id}.log"


def train(job: Job) -> None:
    """Train one run and leave its row."""
    run = _begin(job)
    from bench.training.allocator import keep_freed_memory
    from bench.training.execute import execute

    provenance = {**job.provenance, "world_size": job.world_size, "allocator": keep_freed_memory()}
    row = execute(run, job.study, provenance)
    if job.rank == 0:
        Store(job.folder).write(row)
        claim.release(log_file(job.folder, run.id))
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
        Store(job.folder).write(row)
        claim.release(log_file(job.folder, row.id))


def _begin(job: Job) -> Run:
    """Set the process up for its first run: log, lock, limits, threads."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the launcher's to handle
    die_with_parent()
    run = Run.model_validate_json(job.runs[0])
    log = log_file(job.folder, run.id)
    # The log stays open until the process ends, and the lock with it.
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    if job.rank == 0:
        if not claim.take(descriptor, log):
            os._exit(BUSY)
        if run.id in Store(job.folder).ids():
            claim.release(log)
            os._exit(0)  # another launcher's worker did it since ours looked
        os.ftruncate(descriptor, 0)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    faulthandler.enable()
    if job.memory_bytes is not None:
        limit = data_bytes() + job.memory_bytes
        resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    if job.world_size > 1:
        os.environ |= {
            "RANK": str(job.rank),
            "LOCAL_RANK": str(job.rank),
            "WORLD_SIZE": str(job.world_size),
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(job.port),
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
