"""Processes that train together, and do so block by block when they are told.

They meet at a file, so that no port has to be free. Each is told what to do over a pipe and answers
over it; it ends when its pipe or its parent does.
"""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import timedelta
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch import distributed as dist
from torch.nn.parallel import DistributedDataParallel

from bench.measure.throughput import synchroniser
from bench.process import die_with_parent
from bench.spec import Run
from bench.training import products
from bench.training.data import TrainOrder
from bench.training.execute import Prepared, device_of, diagnose, prepare
from bench.training.optimiser import make_optimiser
from bench.training.precision import lowering, whole_dtype
from tasks.task import Batch

CLOSE_S = 5.0
MEET_S = 300.0
ENDLESS = 1 << 40  # steps of an order that is read as far as needed


class RankError(Exception):
    """A rank failed, died or did not answer. The message says which and why."""


class Block(NamedTuple):
    """What a block of steps is of."""

    fixed: Literal["global", "rank"]  # which batch has the run's size: all ranks' or each one's
    communicates: bool  # whether gradients are averaged over the ranks


@dataclass(frozen=True)
class Times:
    """Seconds per step of a block on one rank, and those of making its batch."""

    seconds: float
    data_seconds: float


def block_of(times: list[Times]) -> tuple[float, float]:
    """A step and the making of its batch on the slowest rank."""
    slowest = max(times, key=lambda each: each.seconds)
    return slowest.seconds, slowest.data_seconds


class Group:
    """N ranks of one run."""

    def __init__(self, run: Run, n_ranks: int, meeting: Path) -> None:
        """Start them; they meet at a file that is not there yet."""
        self.n_ranks, self.tokens = n_ranks, 0
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload([__name__])
        self._pipes: list[Connection] = []
        self.processes = []
        for rank in range(n_ranks):
            mine, theirs = context.Pipe()
            place = (run.model_dump_json(), rank, n_ranks, str(meeting), theirs)
            process = context.Process(target=work, args=place, daemon=True)
            process.start()
            theirs.close()
            self._pipes.append(mine)
            self.processes.append(process)

    def wait_until_ready(self, timeout_s: float) -> None:
        """Wait until every rank has built its model.

        Raises:
            RankError: one did not.
        """
        self.tokens = int(self._answers(timeout_s)[0])

    def block(self, block: Block, steps: int, timeout_s: float) -> list[Times]:
        """Let every rank take so many steps.

        Raises:
            RankError: one did not.
        """
        for pipe in self._pipes:
            try:
                pipe.send((block, steps))
            except OSError:
                continue  # it has died: there will be no answer
        return self._answers(timeout_s)

    def close(self) -> None:
        """End the ranks, now if they do not end by themselves."""
        for pipe in self._pipes:
            pipe.close()
        deadline = time.monotonic() + CLOSE_S
        for process in self.processes:
            process.join(max(0.0, deadline - time.monotonic()))
            if process.exitcode is None:
                process.kill()
                process.join()

    def _answers(self, timeout_s: float) -> list:  # type: ignore[type-arg]
        """What the ranks answer, in their order."""
        deadline = time.monotonic() + timeout_s
        answers: dict[int, object] = {}
        while len(answers) < self.n_ranks:
            silent = [pipe for rank, pipe in enumerate(self._pipes) if rank not in answers]
            left = deadline - time.monotonic()
            if left <= 0:
                rank = self._pipes.index(silent[0])
                raise self._failed(f"{self._name(rank)} did not answer in {timeout_s:g} s")
            for ready in wait(silent, left):
                rank = self._pipes.index(ready)  # type: ignore[arg-type]
                answers[rank] = self._answer(rank)
        return [answers[rank] for rank in range(self.n_ranks)]

    def _answer(self, rank: int) -> object:
        try:
            answer = self._pipes[rank].recv()
        except (EOFError, OSError):
            self.processes[rank].join(CLOSE_S)
            code = self.processes[rank].exitcode
            raise self._failed(f"{self._name(rank)} ended with exit code {code}") from None
        if isinstance(answer, str):
            raise self._failed(f"{self._name(rank)}: {answer}")
        return answer

    def _failed(self, reason: str) -> RankError:
        """The others would wait for the one that failed."""
        for process in self.processes:
            process.kill()
        return RankError(reason)

    def _name(self, rank: int) -> str:
        return f"rank {rank} of {self.n_ranks}"


def work(run_json: str, rank: int, n_ranks: int, meeting: str, pipe: Connection) -> None:
    """What a rank does, from its start to its end."""
    die_with_parent()
    try:
        worker = Worker(Run.model_validate_json(run_json), rank, n_ranks, meeting)
        pipe.send(worker.tokens)
        while True:
            block, steps = pipe.recv()
            pipe.send(worker.block(block, steps))
    except EOFError:
        pass  # the parent has closed the pipe: it is done
    except Exception as error:
        pipe.send(diagnose(error)[1])
    os._exit(0)  # the others may be gone, and a process group waits for them when it is destroyed


class Worker:
    """The model of one rank and its batches."""

    def __init__(self, run: Run, rank: int, n_ranks: int, meeting: str) -> None:
        os.environ["LOCAL_RANK"] = str(rank)
        torch.set_num_threads(run.resources.threads)
        self.device = device_of(run)
        products.settle(self.device)
        self.prepared = prepare(run).to(self.device)
        self.training = run.training
        self.dtype = whole_dtype(run.training.precision)
        model = self.prepared.model.to(self.dtype).train()
        self.optimiser = make_optimiser(model, run.training)
        self.parameters = list(model.parameters())
        self.size = run.training.sequences(run.length)
        self.tokens = self.size * self.prepared.task.tokens
        self.synchronise = synchroniser(self.device)
        self.loss: nn.Module = Loss(self.prepared)
        self.n_ranks = n_ranks
        if n_ranks > 1:
            cuda = self.device.type == "cuda"
            if cuda:
                torch.cuda.set_device(self.device)
            dist.init_process_group(
                "nccl" if cuda else "gloo",
                init_method=f"file://{meeting}",
                rank=rank,
                world_size=n_ranks,
                timeout=timedelta(seconds=MEET_S),
            )
            self.loss = DistributedDataParallel(self.loss, [self.device] if cuda else None)
        self.orders = {
            "global": self._order(self.size, rank),
            "rank": self._order(self.size * n_ranks, rank),
        }

    def block(self, block: Block, steps: int) -> Times:
        """Take steps; the ranks begin together."""
        self._meet()
        data_seconds = 0.0
        begun = time.perf_counter()
        for _ in range(steps):
            before = time.perf_counter()
            batch = self._batch(next(self.orders[block.fixed]))
            data_seconds += time.perf_counter() - before
            self._step(batch, block.communicates)
        self.synchronise()
        seconds = time.perf_counter() - begun
        return Times(seconds / steps, data_seconds / steps)

    def _order(self, size: int, rank: int) -> Iterator[Tensor]:
        task, seed = self.prepared.task, self.prepared.run.seed
        return iter(TrainOrder(task.size("train"), size, ENDLESS, seed, rank, self.n_ranks))

    def _batch(self, indices: Tensor) -> Batch:
        examples = self.prepared.task.examples("train", self.prepared.run.seed, indices)
        return examples.to(self.device).cast(self.dtype)

    def _step(self, batch: Batch, communicates: bool) -> None:
        loss = self.loss
        silent = isinstance(loss, DistributedDataParallel) and not communicates
        self.optimiser.zero_grad(set_to_none=True)
        with loss.no_sync() if silent else nullcontext():  # type: ignore[operator]
            with lowering(self.training.precision, self.device):
                value = loss(batch.inputs, batch.targets, batch.lengths)
            value.backward()
        if self.training.clip_norm is not None:
            nn.utils.clip_grad_norm_(self.parameters, self.training.clip_norm)
        self.optimiser.step()

    def _meet(self) -> None:
        self.synchronise()
        if self.n_ranks > 1:
            dist.barrier()


class Loss(nn.Module):
    """The loss of a batch as a module, for the wrapper that averages gradients."""

    def __init__(self, prepared: Prepared) -> None:
        super().__init__()
        self.model, self.task = prepared.model, prepared.task

    def forward(self, inputs: Tensor, targets: Tensor, lengths: Tensor | None) -> Tensor:
        """The mean loss, a scalar."""
        total, count = self.task.loss(self.model.answer(Batch(inputs, targets, lengths)), targets)
        loss: Tensor = total / count
        return loss
