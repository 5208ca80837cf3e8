"""Throughput: time of a training step and of a forward pass, many cells interleaved in rounds.

A round times a block of every cell, one after another, so that a drift of the machine hits all of
them alike. A block is at least 50 ms of steps; it begins when the device is idle and ends when the
device has done all it was given. Rounds go on until the interval of every cell's median is within
`PRECISION` of it, or the agreed time is over. Blocks during which the process waited for a CPU are
rejected and counted. Blocks far from the median for no such reason are kept, and counted too. One
cell is timed twice in every round, as if it were two: the ratio of its two medians is the noise
floor of the run, and `bench.records.difference` says which differences mean something.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from scipy import stats

BLOCK_S = 0.05
WARM_UP_STEPS = 2  # after the first one, which is reported apart
STOLEN = 0.02
"""The share of a block spent waiting for a CPU above which it is rejected."""
PATIENCE = 4.0
"""How many times the agreed time a busy machine is given, before rejected blocks are used."""
PRECISION = 0.02
"""How far from the median its interval may reach, as a share of it, when rounds may stop."""
GROWTH = 1.3  # between two looks at the intervals, which are not worth a look after every round
OUTLYING = 3.0
"""A block is outlying if it is further than this many scaled MADs from the median."""
MAD_TO_DEVIATION = 1.4826
"""Times the median absolute deviation, of normal values, is their standard deviation."""
N_RESAMPLES = 2000


@dataclass
class Samples:
    """Seconds per step of one cell, a value per accepted block."""

    first_step_s: float
    steps_per_block: int
    seconds: list[float] = field(default_factory=list)
    rejected: list[float] = field(default_factory=list)

    def used(self) -> npt.NDArray[np.float64]:
        """The accepted blocks; the rejected ones too where a busy machine left fewer than three.

        The count of rejected blocks then says how little the numbers are worth.
        """
        used = self.seconds if len(self.seconds) >= 3 else self.seconds + self.rejected
        return np.asarray(used)


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
    outlying: int  # of those used


class Clock(Protocol):
    """What times calls of a step, the device's work included."""

    def seconds(self, step: Callable[[], None], n_steps: int) -> float:
        """Seconds per step."""


class WallClock:
    """Time of a host whose work is done when a call returns."""

    def seconds(self, step: Callable[[], None], n_steps: int) -> float:
        """Seconds per step."""
        begun = time.perf_counter()
        for _ in range(n_steps):
            step()
        return (time.perf_counter() - begun) / n_steps


class CudaClock:
    """Time between two events on the device's stream: the host's waiting for it is not in it.

    The first event is recorded on an idle stream, so what the host does before the first kernel
    (compiling, tuning) counts.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def seconds(self, step: Callable[[], None], n_steps: int) -> float:
        """Seconds per step."""
        with torch.cuda.device(self.device):
            begun, ended = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            torch.cuda.synchronize()
            begun.record()
            for _ in range(n_steps):
                step()
            ended.record()
            ended.synchronize()
            return float(begun.elapsed_time(ended)) / 1e3 / n_steps


@dataclass(frozen=True)
class Timed:
    """A step and its samples."""

    step: Callable[[], None]
    samples: Samples


def clock_of(device: torch.device) -> Clock:
    """The clock for work on a device."""
    return CudaClock(device) if device.type == "cuda" else WallClock()


def synchroniser(device: torch.device) -> Callable[[], None]:
    """What waits until the device has done all that it was given."""
    if device.type == "cuda":
        return lambda: torch.cuda.synchronize(device)
    return lambda: None


def warm_up(step: Callable[[], None], clock: Clock) -> Timed:
    """Run a step for the first time, then often enough to know how many make a block."""
    first = clock.seconds(step, 1)
    one = clock.seconds(step, WARM_UP_STEPS)
    return Timed(step, Samples(first, steps_per_block=max(1, math.ceil(BLOCK_S / one))))


def interleave(
    cells: Sequence[Timed], clock: Clock, seconds_per_cell: float, min_rounds: int
) -> None:
    """Time every cell in rounds until all are known well enough, or have had their time.

    No cell leaves before the others: rounds of fewer cells would not be drifted on alike.
    """
    budget = seconds_per_cell * len(cells)
    begun = time.perf_counter()
    next_look = min_rounds
    while True:
        for cell in cells:
            _block(cell, clock)
        spent = time.perf_counter() - begun
        accepted = min(len(cell.samples.seconds) for cell in cells)
        done = min(len(cell.samples.seconds) + len(cell.samples.rejected) for cell in cells)
        if spent >= budget and accepted >= min_rounds:
            return
        if spent >= PATIENCE * budget and done >= min_rounds:
            return
        if accepted >= next_look:
            if all(is_precise(cell.samples) for cell in cells):
                return
            next_look = math.ceil(GROWTH * accepted)


def is_precise(samples: Samples) -> bool:
    """Whether the interval of the median is within PRECISION of it."""
    values = samples.used()
    median = float(np.median(values))
    low, high = interval_of_median(values)
    return max(high - median, median - low) <= PRECISION * median


def interval_of_median(values: npt.NDArray[np.float64]) -> tuple[float, float]:
    """The 95% percentile bootstrap interval of the median, the same for the same values."""
    if np.ptp(values) == 0:
        return float(values[0]), float(values[0])
    found = stats.bootstrap(
        (values,),
        np.median,
        n_resamples=N_RESAMPLES,
        method="percentile",
        rng=np.random.default_rng(0),
    ).confidence_interval
    return float(found.low), float(found.high)


def summarise(samples: Samples) -> Summary:
    """Median, tails, the bootstrap interval of the median, and how many blocks are outlying."""
    values = samples.used()
    p50, p90, p99 = np.percentile(values, [50, 90, 99])
    low, high = interval_of_median(values)
    distances = np.abs(values - p50)
    far = OUTLYING * MAD_TO_DEVIATION * np.median(distances)
    return Summary(
        p50=float(p50),
        p90=float(p90),
        p99=float(p99),
        low=low,
        high=high,
        first=samples.first_step_s,
        rounds=len(values),
        rejected=len(samples.rejected),
        outlying=int((distances > far).sum()),
    )


def _block(cell: Timed, clock: Clock) -> None:
    samples = cell.samples
    waited = _waited_for_cpu_s()
    seconds = clock.seconds(cell.step, samples.steps_per_block)
    lost = (_waited_for_cpu_s() - waited) > STOLEN * seconds * samples.steps_per_block
    (samples.rejected if lost else samples.seconds).append(seconds)


def _waited_for_cpu_s() -> float:
    """Seconds this process's threads have waited on a run queue; 0 where Linux does not say."""
    total = 0
    for file in Path("/proc/self/task").glob("*/schedstat"):
        try:
            total += int(file.read_text().split()[1])
        except (OSError, IndexError):  # the thread has ended
            continue
    return total / 1e9
