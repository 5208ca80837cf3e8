"""Worker processes on this machine: started, watched, timed out, and buried with a row."""

from __future__ import annotations

import multiprocessing
import os
import signal
import socket
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from multiprocessing import forkserver
from multiprocessing.connection import wait
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path
from typing import Any, Protocol

from bench.errors import UserError
from bench.launch import claim
from bench.launch.entry import BUSY, PRELOAD, Job, log_file
from bench.records.provenance import with_packages
from bench.records.row import Row, Status
from bench.records.store import Store
from bench.spec import Run

POLL_S = 0.2
ELSEWHERE = "another process is at this run"
LOG_LINES = 30
MEMORY_SHARE = 0.9
"""The part of the free memory that the workers may take together."""


class Watcher(Protocol):
    """Somebody who wants to know how the cells fare."""

    def started(self, run: Run) -> None:
        """A worker has begun with a run."""

    def finished(self, run: Run, status: str, reason: str) -> None:
        """A run has a row; status `elsewhere` if another launcher is at it."""

    def waiting(self, reason: str) -> None:
        """Nothing can be started yet."""

    def tick(self) -> None:
        """Time has passed."""


@dataclass
class Worker:
    """The processes of one run, one per rank, or those of one measuring session."""

    run: Run
    processes: list[ForkServerProcess]
    logs: list[Path]  # of all its runs
    begun: float = field(default_factory=time.monotonic)

    def sentinels(self) -> list[int]:
        """What becomes ready when a process ends."""
        return [process.sentinel for process in self.processes]

    def kill(self) -> None:
        """End every rank, now."""
        for process in self.processes:
            process.kill()
            process.join()
        for log in self.logs:  # the runs are not lost: whoever started the worker saw it end
            claim.release(log, self.processes[0].pid)

    def failed_code(self) -> int | None:
        """The exit code of a rank that did not end well; None as long as there is none."""
        codes = [process.exitcode for process in self.processes]
        return next((code for code in codes if code not in (None, 0)), None)

    def ended(self) -> bool:
        """Whether all ranks have ended."""
        return all(process.exitcode is not None for process in self.processes)


class Pool:
    """Starts workers for the runs of one study and sees to it that each leaves a row."""

    def __init__(
        self, store: Store, study: str, provenance: Mapping[str, Any], watcher: Watcher
    ) -> None:
        self.store, self.study, self.watcher = store, study, watcher
        self.provenance = dict(provenance)
        # A thread pool that a library starts at import does not survive the fork.
        os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
        self.context: ForkServerContext = multiprocessing.get_context("forkserver")
        self.context.set_forkserver_preload(PRELOAD)
        self._start_server()
        self.alive: list[Worker] = []

    def _start_server(self) -> None:
        """Start the server that forks workers, deaf to the Ctrl-C that a terminal sends to all."""
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            forkserver.ensure_running()
        finally:
            signal.signal(signal.SIGINT, before)

    @contextmanager
    def killing(self) -> Iterator[None]:
        """Leave no worker behind, however the block ends."""
        try:
            yield
        finally:
            for worker in self.alive:
                worker.kill()
            self.alive.clear()

    def each(
        self,
        runs: Iterable[Run],
        n_workers: int,
        target: Callable[..., None],
        arguments: Callable[[Run], tuple[Any, ...]] = lambda run: (),
        bury: Callable[[Run, Status, str], None] | None = None,
    ) -> None:
        """Do `target` for every run, `n_workers` at a time, each in a process of its own.

        `bury` takes down what a worker that died could not: by default, in the run's row.
        """
        bury = bury or self.leave_row
        waiting = list(runs)[::-1]
        share = memory_share(n_workers)
        with self.killing():
            while waiting or self.alive:
                while waiting and len(self.alive) < n_workers:
                    run = waiting.pop()
                    if self.store.has(run.id):  # another launcher's doing, since the plan was made
                        self.report(run)
                        continue
                    memory = run.resources.memory_bytes or share
                    job = self._job([run], memory)
                    self.alive.append(self._start(run, target, job, arguments(run)))
                    self.watcher.started(run)
                self._poll(bury)

    def session(
        self, runs: list[Run], target: Callable[..., None], arguments: tuple[Any, ...]
    ) -> int:
        """Do `target` once for several runs; the answer is the exit code."""
        with self.killing():
            worker = self._start(runs[0], target, self._job(runs, None), arguments)
            worker.logs = [log_file(self.store.folder, run.id) for run in runs]
            self.alive.append(worker)
            for run in runs:
                self.watcher.started(run)
            deadline = worker.begun + sum(run.resources.timeout_s for run in runs)
            while not worker.ended() and time.monotonic() < deadline:
                wait(worker.sentinels(), POLL_S)
                self.watcher.tick()
            code = worker.processes[0].exitcode
            worker.kill()
            return -signal.SIGKILL if code is None else code

    def _job(self, runs: list[Run], memory_bytes: int | None) -> Job:
        return Job(
            runs=tuple(run.model_dump_json() for run in runs),
            study=self.study,
            folder=self.store.folder.resolve(),
            provenance=self.provenance,
            memory_bytes=memory_bytes,
        )

    def _start(
        self, run: Run, target: Callable[..., None], job: Job, arguments: tuple[Any, ...]
    ) -> Worker:
        ranks = run.resources.devices
        port = _free_port() if ranks > 1 else 0
        processes = []
        for rank in range(ranks):
            placed = replace(job, rank=rank, world_size=ranks, port=port)
            process = self.context.Process(target=target, args=(placed, *arguments))
            try:
                process.start()
            except (EOFError, ConnectionError):
                raise UserError(
                    "the server that forks the workers was killed; the same command goes on"
                ) from None
            processes.append(process)
        return Worker(run, processes, [log_file(self.store.folder, run.id)])

    def _poll(self, bury: Callable[[Run, Status, str], None]) -> None:
        wait([s for worker in self.alive for s in worker.sentinels()], POLL_S)
        now = time.monotonic()
        for worker in list(self.alive):
            run, limit = worker.run, worker.run.resources.timeout_s
            if worker.ended() or worker.failed_code() is not None:
                worker.kill()  # the other ranks would wait for the dead one
                self.alive.remove(worker)
                self._bury(worker, bury)
            elif now - worker.begun > limit:
                worker.kill()
                self.alive.remove(worker)
                bury(run, "timeout", f"stopped after {limit:g} s (resources.timeout_s)")
        self.watcher.tick()

    def _bury(self, worker: Worker, bury: Callable[[Run, Status, str], None]) -> None:
        """Report what the worker left; `bury` it if it ended badly and left no row."""
        run, code = worker.run, worker.failed_code()
        if code == BUSY:
            self.watcher.finished(run, "elsewhere", ELSEWHERE)
        elif code is None or run.id in self.store.ids():
            self.report(run)
        else:
            log = self.log_tail(run).lower()
            starved = "out of memory" in log or "bad_alloc" in log
            bury(run, "oom" if starved else "failed", describe_exit(code))

    def report(self, run: Run) -> None:
        """Tell the watcher of the run's row, if it has one."""
        for row in self.store.rows([run.id]):
            self.watcher.finished(run, row.status, row.reason)

    def log_tail(self, run: Run) -> str:
        """The last lines that a run's worker printed."""
        return _last_lines(log_file(self.store.folder, run.id))

    def leave_row(self, run: Run, status: Status, reason: str) -> None:
        """Write the row that a worker could not write itself."""
        row = Row(
            id=run.id,
            study=self.study,
            status=status,
            reason=reason,
            log_tail=self.log_tail(run),
            run=run.model_dump(mode="json"),
            provenance=with_packages(self.provenance, run),
        )
        self.store.write(row)
        self.watcher.finished(run, status, reason)


def describe_exit(code: int) -> str:
    """A process's exit code in words."""
    if code == -signal.SIGKILL:
        return "the process was killed (SIGKILL): by the kernel for its memory, or by somebody"
    if code < 0:
        return f"the process died of {signal.Signals(-code).name}"
    return f"the process ended with exit code {code} and without a row"


def memory_share(n_workers: int) -> int | None:
    """Bytes that each of the workers may take.

    None with an accelerator, whose driver maps more than it uses, and where Linux does not tell.
    """
    meminfo = Path("/proc/meminfo")
    if Path("/dev/nvidiactl").exists() or not meminfo.exists():
        return None
    for line in meminfo.read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(int(line.split()[1]) * 1024 * MEMORY_SHARE / n_workers)
    return None


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _last_lines(log: Path) -> str:
    try:
        return "\n".join(log.read_text(errors="replace").splitlines()[-LOG_LINES:])
    except OSError:
        return ""
