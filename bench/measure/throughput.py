"""Throughput: time of a training step and of a forward pass, many cells interleaved in rounds.

A round times a block of every cell, one after another, so that a drift of the machine hits all of
them alike. A block is at least 50 ms of steps, ended by a synchronisation of the device. Blocks
during which the process waited for a CPU are rejected and counted. One cell is timed twice in every
round, as if it were two: the ratio of its two medians is the noise floor of the run, and no smaller
difference between cells means anything.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from scipy import stats

BLOCK_S = 0.05
WARM_UP_STEPS = 2  # after the first one, which is reported apart
STOLEN = 0.02
"""The share of a block spent waiting for a CPU above which it is rejected."""
PATIENCE = 4.0
"""How many times the agreed time a busy machine is given, before rejected blocks are used."""


@dataclass
class Samples:
    """Seconds per step of one cell, a value per accepted block."""

    first_step_s: float
    steps_per_block: int
    seconds: list[float] = field(default_factory=list)
    rejected: list[float] = field(default_factory=list)


@dataclass(frozen=True)
class Summary:
    """A time per step with the interval of its median."""

    p50: float
    p90: float
    p99: float
    low: float  # 95% bootstrap interval of the median
    high: float
    first: float
    rounds: int
    rejected: int


@dataclass(frozen=True)
class Timed:
    """A step and its samples."""

    step: Callable[[], None]
    samples: Samples


def warm_up(step: Callable[[], None], synchronise: Callable[[], None]) -> Timed:
    """Run a step for the first time, then often enough to know how many make a block."""
    first = _seconds(step, synchronise, 1)
    one = _seconds(step, synchronise, WARM_UP_STEPS)
    return Timed(step, Samples(first, steps_per_block=max(1, math.ceil(BLOCK_S / one))))


def interleave(
    cells: Sequence[Timed],
    synchronise: Callable[[], None],
    seconds_per_cell: float,
    min_rounds: int,
) -> None:
    """Time every cell in rounds until each has had its time and its rounds."""
    budget = seconds_per_cell * len(cells)
    begun = time.perf_counter()
    while True:
        for cell in cells:
            _block(cell, synchronise)
        spent = time.perf_counter() - begun
        accepted = min(len(cell.samples.seconds) for cell in cells)
        done = min(len(cell.samples.seconds) + len(cell.samples.rejected) for cell in cells)
        if spent >= budget and accepted >= min_rounds:
            return
        if spent >= PATIENCE * budget and done >= min_rounds:
            return


def summarise(samples: Samples) -> Summary:
    """Median, tails and the bootstrap interval of the median.

    Where a busy machine left fewer than three accepted blocks, the rejected ones are used too; the
    count of rejected blocks then says how little the numbers are worth.
    """
    used = samples.seconds if len(samples.seconds) >= 3 else samples.seconds + samples.rejected
    values = np.asarray(used)
    p50, p90, p99 = np.percentile(values, [50, 90, 99])
    low = high = p50
    if np.ptp(values) > 0:
        interval = stats.bootstrap(
            (values,), np.median, method="percentile", rng=np.random.default_rng(0)
        ).confidence_interval
        low, high = interval.low, interval.high
    return Summary(
        p50=float(p50),
        p90=float(p90),
        p99=float(p99),
        low=float(low),
        high=float(high),
        first=samples.first_step_s,
        rounds=len(values),
        rejected=len(samples.rejected),
    )


def synchroniser(device: torch.device) -> Callable[[], None]:
    """What waits until the device has done all that it was given."""
    if device.type == "cuda":
        return lambda: torch.cuda.synchronize(device)
    return lambda: None


def _block(cell: Timed, synchronise: Callable[[], None]) -> None:
    samples = cell.samples
    waited = _waited_for_cpu_s()
    seconds = _seconds(cell.step, synchronise, samples.steps_per_block)
    lost = (_waited_for_cpu_s() - waited) > STOLEN * seconds * samples.steps_per_block
    (samples.rejected if lost else samples.seconds).append(seconds)


def _seconds(step: Callable[[], None], synchronise: Callable[[], None], steps: int) -> float:
    """Seconds per step, the device's work included."""
    begun = time.perf_counter()
    for _ in range(steps):
        step()
    synchronise()
    return (time.perf_counter() - begun) / steps


def _waited_for_cpu_s() -> float:
    """Seconds this process's threads have waited on a run queue; 0 where Linux does not say."""
    total = 0
    for file in Path("/proc/self/task").glob("*/schedstat"):
        try:
            total += int(file.read_text().split()[1])
        except (OSError, IndexError):  # the thread has ended
            continue
    return total / 1e9
