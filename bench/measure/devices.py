"""Scaling over ranks: what N devices, or N processes on a CPU, make of one training step.

Data parallelism as training has it (PyTorch's DistributedDataParallel, Li et al. 2020,
https://arxiv.org/abs/2006.15704) over gloo on a CPU and nccl on CUDA. A step makes its rank's part
of a new batch, as the harness's loaders do, and trains on it. With t(N) the time of a step:

- efficiency at a fixed global batch: t(1) / (N t(N)), strong scaling;
- efficiency at a fixed batch of each rank: t(1) / t(N), weak scaling;
- communication: what a step takes longer than one that keeps its gradients to itself (`no_sync`);
- data: the making of batches and their way to the device. Both as shares of t(N).

t(1) is a step without any wrapper. All ranks live at the same time in processes of their own, and
the groups take turns by rounds, in which the others wait; a block lasts as long as its slowest
rank. A rank that dies, or does not answer in time, ends its group, whose numbers are then missing.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from architectures.body import UnsupportedError
from bench.measure.metrics import Metrics
from bench.measure.ranks import Block, Group, RankError, block_of
from bench.measure.resampling import Floats, interval, picks
from bench.spec import Run
from bench.training.execute import device_of

MAX_RANKS = 8
BLOCK_S = 0.1
START_S = 300.0  # seconds in which a rank has to have started and done its first steps
ANSWER_S = 120.0  # seconds in which a block has to end

KINDS = (Block("global", True), Block("global", False), Block("rank", True))


@dataclass
class Lane:
    """The blocks of one kind on one group: seconds of a step, and those of making its batch."""

    seconds: list[float] = field(default_factory=list)
    data_seconds: list[float] = field(default_factory=list)


def measure(run: Run, ranks: Sequence[int] | None = None, answer_s: float = ANSWER_S) -> Metrics:
    """Efficiency and shares for each number of ranks beyond one, `ranks_..._2` and so on.

    Raises:
        UnsupportedError: the run cannot be spread over ranks, or one rank alone fails.
    """
    if run.training.tbptt_window is not None:
        raise UnsupportedError("tbptt_window is for one device")
    if run.resources.strategy == "fsdp":
        raise UnsupportedError("scaling over ranks is measured of strategy ddp")
    present = available(run)
    wanted = (
        tuple(sorted(set(ranks)))
        if ranks is not None
        else powers_of_two(min(present, run.measure.max_ranks))
    )
    many = [n for n in wanted if n > 1]
    if not many:
        return {"ranks_missing": f"there is room for {present} rank on this machine"}
    found: Metrics = {}
    with tempfile.TemporaryDirectory() as folder:
        groups: dict[int, Group] = {}
        try:
            for n in (1, *many):
                if n > run.training.sequences(run.length):
                    found[f"ranks_{n}_missing"] = f"a batch has fewer than {n} sequences"
                    continue
                groups[n] = Group(run, n, Path(folder) / f"meet-{n}")
            return found | _measured(run, groups, answer_s)
        finally:
            for group in groups.values():
                group.close()


def available(run: Run) -> int:
    """How many ranks this machine has room for."""
    if device_of(run).type == "cuda":
        return torch.cuda.device_count()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return max(1, (cores or 1) // run.resources.threads)


def powers_of_two(limit: int) -> tuple[int, ...]:
    """1, 2, 4 and so on up to the limit and MAX_RANKS."""
    return tuple(2**k for k in range(MAX_RANKS.bit_length()) if 2**k <= min(limit, MAX_RANKS))


def _measured(run: Run, groups: dict[int, Group], answer_s: float) -> Metrics:
    """Take turns until every group has had its time."""
    found: Metrics = {}
    lanes = {(n, kind): Lane() for n in groups for kind in _kinds(n)}
    steps: dict[tuple[int, Block], int] = {}

    def attempt(n: int, action: Callable[[], None]) -> None:
        """Let a group do something; one that fails is given up."""
        try:
            action()
        except RankError as error:
            groups.pop(n).close()
            found["ranks_missing" if n == 1 else f"ranks_{n}_missing"] = str(error)

    def start(n: int) -> None:
        groups[n].wait_until_ready(START_S)
        for kind in _kinds(n):
            groups[n].block(kind, 1, START_S)  # allocates, tunes and builds the buckets
            seconds, _ = block_of(groups[n].block(kind, 2, START_S))
            steps[n, kind] = max(1, round(BLOCK_S / seconds))

    def take(n: int) -> None:
        for kind in _kinds(n):
            seconds, data_seconds = block_of(groups[n].block(kind, steps[n, kind], answer_s))
            lanes[n, kind].seconds.append(seconds)
            lanes[n, kind].data_seconds.append(data_seconds)

    for n in list(groups):
        attempt(n, lambda n=n: start(n))  # type: ignore[misc]
    budget = run.measure.seconds_per_cell * max(1, len(groups))
    begun, rounds = time.perf_counter(), 0
    while 1 in groups and len(groups) > 1:
        for n in list(groups):
            attempt(n, lambda n=n: take(n))  # type: ignore[misc]
        rounds += 1
        if rounds >= run.measure.min_rounds and time.perf_counter() - begun >= budget:
            break
    if 1 not in groups:
        return found
    tokens = groups[1].tokens
    single = lanes[1, KINDS[0]]
    found["ranks_tokens_per_s_1"] = tokens / float(np.median(single.seconds or [np.nan]))
    for n in groups:
        if n > 1:
            found |= _scaling(n, single, [lanes[n, kind] for kind in KINDS], tokens)
    if len(groups) == 1:
        del found["ranks_tokens_per_s_1"]
    return {**found, "ranks_rounds": rounds}


def _kinds(n: int) -> tuple[Block, ...]:
    """One rank has nobody to talk to, and its batch is the global one."""
    return KINDS if n > 1 else KINDS[:1]


def _scaling(n: int, single: Lane, lanes: Sequence[Lane], tokens: int) -> Metrics:
    """The metrics of N ranks; rounds are resampled, in which all lanes were timed side by side."""
    together, apart, weak = (np.array(lane.seconds) for lane in lanes)
    one, data = np.array(single.seconds), np.array(lanes[0].data_seconds)

    def estimates(chosen: object) -> dict[str, Floats]:
        def middle(values: Floats) -> Floats:
            taken: Floats = np.median(values[chosen], axis=-1)  # type: ignore[call-overload]
            return taken

        step = middle(together)
        return {
            f"ranks_efficiency_{n}": middle(one) / (n * step),
            f"ranks_weak_efficiency_{n}": middle(one) / middle(weak),
            f"ranks_communication_share_{n}": 1 - middle(apart) / step,
            f"ranks_data_share_{n}": middle(data) / step,
        }

    found: Metrics = {f"ranks_tokens_per_s_{n}": tokens / float(np.median(together))}
    resampled = estimates(picks(len(one)))
    for name, value in estimates(slice(None)).items():
        low, high = interval(resampled[name])
        found |= {name: float(value), f"{name}_low": low, f"{name}_high": high}
    return found
