"""Worker processes on this machine: started, watched, timed out, and buried with a row."""

from __future__ import annotations

import multiprocessing
import os
import signal
import socket
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from multiprocessing import forkserver
from multiprocessing.connection import wait
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path
from typing import Any, Protocol

from bench.errors import UserError
from bench.launch import claim
from bench.launch.autopsy import describe_exit, hung, last_words, oom_kills
from bench.launch.entry import BUSY, PEER_LOST, PRELOAD, REQUEUE, UNWRITTEN, Job, Place, log_file
from bench.launch.stopping import Stopped, deaf, heeding
from bench.records import checkpoints
from bench.records.provenance import with_packages
from bench.records.row import Row, Status
from bench.records.store import Store
from bench.spec import Run
from bench.trackers import choice

POLL_S = 0.2
ELSEWHERE = "another process is at this run"
LINGER_S = 3.0
"""How long the ranks beside one that died have to say what they were at."""

GRACE_S = 25.0
"""How long workers that are asked to leave have for a checkpoint; Slurm's KillWait is 30 s."""

MEMORY_SHARE = 0.9
"""The part of the free memory that the workers may take together."""


class Watcher(Protocol):
    """Somebody who wants to know how the cells fare."""

    def started(self, run: Run) -> None:
        """A worker has begun with a run."""

    def finished(self, run: Run, status: str, reason: str) -> None:
        """A run has a row; or none: `elsewhere` if another launcher is at it, `stopped` if a signal
        asked it to leave, `unwritten` if there was no place for the row.
        """

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

    def kill(self, linger_s: float = 0.0) -> None:
        """End every rank; those that end within `linger_s` do so by themselves."""
        deadline = time.monotonic() + linger_s
        for process in self.processes:
            process.join(max(0.0, deadline - time.monotonic()))
            process.kill()
            process.join()
        for log in self.logs:  # the runs are not lost: whoever started the worker saw it end
            claim.release(log, self.processes[0].pid)

    def signal(self, number: int) -> None:
        """Send a signal to every rank that has not ended."""
        for process in self.processes:
            if process.exitcode is None and process.pid is not None:
                with suppress(ProcessLookupError):  # it ends this moment
                    os.kill(process.pid, number)

    def failed_code(self) -> int | None:
        """The exit code of a rank that did not end well; None as long as there is none."""
        codes = [process.exitcode for process in self.processes]
        return next((code for code in codes if code not in (None, 0)), None)

    def ended(self) -> bool:
        """Whether all ranks have ended."""
        return all(process.exitcode is not None for process in self.processes)


def local_places(run: Run) -> list[Place]:
    """The ranks of a run, all of them on this machine."""
    ranks = run.resources.devices
    port = _free_port() if ranks > 1 else 0
    return [Place(rank, rank, ranks, port=port) for rank in range(ranks)]


class Pool:
    """Starts workers for the runs of one study and sees to it that each leaves a row.

    `places` says which ranks of a run are to be started here. A signal to stop sets `stopping`;
    `stopped` are the runs that left for such a signal, and `unwritten` those without a row because
    it could not be written, each with the reason. `trackers` follow the runs that train.
    """

    def __init__(
        self,
        store: Store,
        study: str,
        provenance: Mapping[str, Any],
        watcher: Watcher,
        *,
        places: Callable[[Run], list[Place]] = local_places,
        grace_s: float = GRACE_S,
        trackers: tuple[str, ...] = (),
    ) -> None:
        self.store, self.study, self.watcher = store, study, watcher
        self.provenance = dict(provenance)
        self.places, self.grace_s, self.trackers = places, grace_s, trackers
        self.stopping: int | None = None
        self.stopped: list[Run] = []
        self.unwritten: dict[str, str] = {}
        self.oom_kills = oom_kills()
        # A thread pool that a library starts at import does not survive the fork.
        os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
        self.context: ForkServerContext = multiprocessing.get_context("forkserver")
        self.context.set_forkserver_preload([*PRELOAD, *choice.packages(trackers)])
        self._start_server()
        self.alive: list[Worker] = []

    def _start_server(self) -> None:
        """Start the server that forks workers, deaf to signals that are sent to all processes."""
        with deaf():
            forkserver.ensure_running()

    @contextmanager
    def heeding_signals(self) -> Iterator[None]:
        """Stop for SIGTERM and SIGUSR1: the workers leave a checkpoint.

        Raises:
            Stopped: there was such a signal, and no worker is left.
        """

        def receive(number: int) -> None:
            self.stopping = self.stopping or number
            if not self.alive:  # perhaps it waits for a lock
                raise Stopped(number)

        with heeding(receive):
            yield

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
                self._leave_if_stopping(bury)
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
            self._leave_if_stopping(bury)

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
                self._leave_if_stopping(self.leave_row)
                wait(worker.sentinels(), POLL_S)
                self.watcher.tick()
            code = worker.processes[0].exitcode
            worker.kill()
            return -signal.SIGKILL if code is None else code

    def _leave_if_stopping(self, bury: Callable[[Run, Status, str], None]) -> None:
        """Ask the workers to leave, again and again: one that has just begun does not hear it."""
        if self.stopping is None:
            return
        deadline = time.monotonic() + self.grace_s
        while self.alive and time.monotonic() < deadline:
            for worker in self.alive:
                worker.signal(self.stopping)
            self._poll(bury)
        raise Stopped(self.stopping)

    def _job(self, runs: list[Run], memory_bytes: int | None) -> Job:
        return Job(
            runs=tuple(run.model_dump_json() for run in runs),
            study=self.study,
            folder=self.store.folder.resolve(),
            provenance=self.provenance,
            memory_bytes=memory_bytes,
            trackers=self.trackers,
        )

    def _start(
        self, run: Run, target: Callable[..., None], job: Job, arguments: tuple[Any, ...]
    ) -> Worker:
        if not self.alive:
            self.oom_kills = oom_kills()
        processes = []
        for place in self.places(run):
            placed = replace(job, place=place)
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
            code = worker.failed_code()
            if worker.ended() or code is not None:
                worker.kill(LINGER_S)  # the other ranks would wait for the dead one
                self.alive.remove(worker)
                self._bury(run, code, bury)
            elif now - worker.begun > limit:
                worker.kill()
                self.alive.remove(worker)
                if self.store.has(run.id):  # only its trackers were not at their end
                    self.report(run)
                else:
                    bury(run, "timeout", f"stopped after {limit:g} s (resources.timeout_s)")
        self.watcher.tick()

    def _bury(self, run: Run, code: int | None, bury: Callable[[Run, Status, str], None]) -> None:
        """Report what the worker left; `bury` it if it ended badly and left no row."""
        if code == BUSY:
            self.watcher.finished(run, "elsewhere", ELSEWHERE)
        elif code is None or run.id in self.store.ids():
            self.report(run)
        elif code in (REQUEUE, PEER_LOST, -signal.SIGTERM, -signal.SIGUSR1):
            self.stopped.append(run)
            why = "another node is gone" if code == PEER_LOST else "asked to leave"
            self.watcher.finished(run, "stopped", f"{why}; goes on later")
        elif code == UNWRITTEN:
            said = self.log_tail(run).rpartition("\n")[2]
            self._note_unwritten(run, said or "the row could not be written, nor the log")
        else:
            bury(run, *self._cause(run, code))

    def _cause(self, run: Run, code: int) -> tuple[Status, str]:
        """The status and the reason of a run whose worker died with a code."""
        limit_s = run.resources.hang_s
        if code > 0 and hung(self._logs(run)):
            return "failed", f"nothing happened for {limit_s:g} s (resources.hang_s): see the log"
        log = self.log_tail(run).lower()
        if "out of memory" in log or "bad_alloc" in log:
            return "oom", describe_exit(code)
        if code == -signal.SIGKILL and oom_kills() > self.oom_kills:
            self.oom_kills += 1  # the other ones are of other workers
            return "oom", "killed by the kernel: the memory of its control group was used up"
        return "failed", describe_exit(code)

    def _note_unwritten(self, run: Run, reason: str) -> None:
        self.unwritten[run.id] = reason
        self.watcher.finished(run, "unwritten", reason)

    def report(self, run: Run) -> None:
        """Tell the watcher of the run's row, if it has one."""
        for row in self.store.rows([run.id]):
            self.watcher.finished(run, row.status, row.reason)

    def log_tail(self, run: Run) -> str:
        """The last lines that a run's worker printed, of each rank that was started here."""
        return last_words(self._logs(run))

    def _logs(self, run: Run) -> list[Path]:
        ranks = run.resources.devices * run.resources.nodes
        return [log_file(self.store.folder, run.id, rank) for rank in range(ranks)]

    def leave_row(self, run: Run, status: Status, reason: str) -> None:
        """Write the row that a worker could not write itself.

        More time is all that a run needs that was too slow: its checkpoints stay.
        """
        row = Row(
            id=run.id,
            study=self.study,
            status=status,
            reason=reason,
            log_tail=self.log_tail(run),
            run=run.model_dump(mode="json"),
            provenance=with_packages(self.provenance, run),
        )
        try:
            self.store.write(row)
        except UserError as error:
            self._note_unwritten(run, str(error))
            return
        if status != "timeout":
            checkpoints.forget(self.store.folder, run.id)
        self.watcher.finished(run, status, reason)


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
