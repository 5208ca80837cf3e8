"""Times of two candidates in turns, in blocks that are long enough and had the CPU to themselves.

A block is at least 50 ms of steps. With one thread a block's time is the process's own CPU time,
which a busy machine disturbs least; with more, and on a GPU, it is wall time, the device waited
for. Blocks during which the process waited for a CPU are dropped while three others remain. The
first candidate takes part twice: the ratio of its two medians, A/A, is the noise floor.
"""

from __future__ import annotations

import ctypes
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from tests.speed.kernel_table.comparison import Call, Comparison

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # malloc.h
BLOCK_S, STOLEN = 0.05, 0.02
ROUNDS, QUICK_ROUNDS, SLOW_ROUNDS = 9, 3, 3
SLOW_S = 1.0  # a step that takes longer is timed in fewer rounds, and by --quick once
LEAST_CLEAN = 3  # blocks, of those that did not wait for a CPU
AGREEMENT = 1e-3  # float32 over 8192 tokens; the scan in log space is 1e-4 off
SAME_SPEED = 0.1
"""No ratio below 1.1, or below three times the A/A gap, is a difference."""


@dataclass(frozen=True)
class Timer:
    """How time is taken. `cpu`: the process's own, else the wall's."""

    device: torch.device
    cpu: bool
    quick: bool

    def now(self) -> float:
        """Seconds, all work on the device being done."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.process_time() if self.cpu else time.perf_counter()


class Candidate:
    """One implementation and the seconds of its blocks, those that waited for a CPU apart."""

    def __init__(self, call: Call, inputs: Sequence[Tensor], timer: Timer) -> None:
        self.call, self.inputs, self.timer = call, inputs, timer
        self.clean: list[float] = []
        self.disturbed: list[float] = []
        self.cotangent: Tensor | None = None
        self.steps = 1
        self.block()  # the first: it warms up
        first_s = (self.clean + self.disturbed)[0]
        self.rounds = QUICK_ROUNDS if timer.quick else ROUNDS
        if first_s > SLOW_S:
            self.rounds = 0 if timer.quick else SLOW_ROUNDS
        else:
            self.block()
            second_s = min(self.clean + self.disturbed)
            self.steps = math.ceil(BLOCK_S / second_s)
        if self.rounds:
            self.clean, self.disturbed = [], []

    def step(self) -> Tensor:
        """Forward and backward; returns the output."""
        y = self.call(*self.inputs)
        if self.cotangent is None:
            self.cotangent = torch.randn_like(y)
        torch.autograd.grad(y, list(self.inputs), self.cotangent)
        return y.detach()

    def block(self) -> None:
        """Time a block."""
        waited, began, begun = waited_s(), time.perf_counter(), self.timer.now()
        for _ in range(self.steps):
            self.step()
        seconds = (self.timer.now() - begun) / self.steps
        lost = waited_s() - waited > STOLEN * (time.perf_counter() - began)
        (self.disturbed if lost else self.clean).append(seconds)

    def used(self) -> list[float]:
        """The blocks that count."""
        return self.clean if self.drops else self.clean + self.disturbed

    @property
    def drops(self) -> bool:
        """Whether enough blocks remain without those that waited."""
        return len(self.clean) >= LEAST_CLEAN


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """Seconds of a step of both, of forward and backward, and what the machine would allow."""

    seconds: float
    low: float  # quartiles
    high: float
    peer_seconds: float
    noise: float
    blocks: int
    dropped: int
    flops: float
    moved_bytes: float
    """The least traffic: inputs read and the output written by the forward pass; inputs and the
    output's gradient read, and the inputs' gradients written, by the backward pass."""

    @property
    def ratio(self) -> float:
        """How many times faster than the peer."""
        return self.peer_seconds / self.seconds

    def met(self, bound: float, *, not_slower: bool) -> bool:
        """Whether the ratio is as large as it has to be."""
        if not_slower:
            bound /= 1 + max(SAME_SPEED, 3 * abs(self.noise - 1))
        return self.ratio >= bound


def compare(comparison: Comparison, timer: Timer) -> Outcome:
    """Time both in turns.

    Raises:
        RuntimeError: they do not compute the same, and should.
    """
    peer_inputs = comparison.peer_inputs or comparison.inputs
    if comparison.same:
        check_agreement(comparison, peer_inputs)
    native, again = (Candidate(comparison.native, comparison.inputs, timer) for _ in range(2))
    peer = Candidate(comparison.peer, peer_inputs, timer)
    candidates = (native, peer, again)
    for number in range(max(candidate.rounds for candidate in candidates)):
        for candidate in candidates:
            if number < candidate.rounds:
                candidate.block()
    mine = native.used() + again.used()
    low, high = np.percentile(mine, [25, 75])
    inputs = sum(map(tensor_bytes, comparison.inputs))
    output = 0 if native.cotangent is None else tensor_bytes(native.cotangent)
    return Outcome(
        seconds=float(np.median(mine)),
        low=float(low),
        high=float(high),
        peer_seconds=float(np.median(peer.used())),
        noise=float(np.median(again.used()) / np.median(native.used())),
        blocks=sum(len(c.clean) + len(c.disturbed) for c in candidates),
        dropped=sum(len(c.disturbed) for c in candidates if c.drops),
        flops=comparison.flops,
        moved_bytes=3 * inputs + 2 * output,
    )


def check_agreement(comparison: Comparison, peer_inputs: Sequence[Tensor]) -> None:
    """Raise RuntimeError unless both put out the same, to AGREEMENT of the largest value."""
    with torch.no_grad():
        mine, theirs = comparison.native(*comparison.inputs), comparison.peer(*peer_inputs)
    error = float((mine - theirs).abs().max() / theirs.abs().max())
    if not error <= AGREEMENT:
        raise RuntimeError(
            f"{comparison.title}: outputs differ by {error:.1e} of the largest, "
            f"more than {AGREEMENT:g}: not the same operation"
        )


def least_seconds(step: Callable[[], object], timer: Timer, blocks: int) -> float:
    """The least seconds per step of several blocks: what the machine can do."""
    step()
    seconds = []
    for _ in range(blocks):
        begun, steps = timer.now(), 0
        while (passed := timer.now() - begun) < BLOCK_S or not steps:
            step()
            steps += 1
        seconds.append(passed / steps)
    return min(seconds)


def keep_freed_memory() -> None:
    """Where the C library is glibc: neither map large tensors apart nor give memory back."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_MMAP_THRESHOLD, 1 << 30)
        mallopt(M_TRIM_THRESHOLD, (1 << 31) - 1)


def waited_s() -> float:
    """Seconds that the process's threads have waited for a CPU so far."""
    total = 0
    for file in Path("/proc/self/task").glob("*/schedstat"):
        total += int(file.read_text().split()[1])
    return total / 1e9


def tensor_bytes(tensor: Tensor) -> int:
    """Of its elements."""
    return tensor.numel() * tensor.element_size()
