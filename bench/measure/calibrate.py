"""What this machine can do at most: matrix products per type, memory, its clock, and its noise.

Measured on the device and with the threads of the runs, never taken from a table of another card:

matmul_<dtype>_flops_per_s      the fastest of square products of several sizes, 2 n^3 operations
copy_bytes_per_s                b = a: read and write, two arrays that no cache holds
triad_bytes_per_s               a = b + s c: two reads and a write (STREAM; McCalpin 1995,
                                https://www.cs.virginia.edu/stream/)
timer_resolution_s              the smallest step of the clock that is ever seen
noise_floor                     the ratio of two medians of one product, timed in turns with itself

A calibration is written to the user's cache, one file per machine, device, version of torch,
library of products and number of threads; its id is the hash of all that it says, and rows hold
that id beside the values they used. `bench doctor --calibrate` makes a new one.
"""

from __future__ import annotations

import hashlib
import json
import platform
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from architectures.kernels.native.build import cache_folder
from bench.measure.throughput import Clock, Samples, Timed, clock_of, interleave, summarise, warm_up
from bench.records.files import write_atomically
from bench.records.provenance import processor
from bench.training import products

DTYPES = ("float32", "bfloat16", "float16", "float64")
SIZES = {"cpu": (512, 1024), "cuda": (2048, 4096, 8192)}  # of square products
ARRAY_BYTES = {"cpu": 128 << 20, "cuda": 1 << 30}  # larger than any cache
SECONDS = 0.15  # for each measurement
MIN_ROUNDS = 3
N_TICKS = 1000
SLOW_S = 1.0
"""A type whose smallest product takes longer is one this machine computes by emulation."""


@dataclass(frozen=True)
class Calibration:
    """The most that one machine does, and which machine that is."""

    machine: dict[str, str | int]
    values: dict[str, float]

    @property
    def id(self) -> str:
        """The hash of all that it says."""
        return _digest(asdict(self))

    def matmul_flops_per_s(self, dtype: str) -> float | None:
        """Operations per second of the fastest product of this type; None if it has none."""
        return self.values.get(f"matmul_{dtype}_flops_per_s")

    @property
    def bytes_per_s(self) -> float:
        """What memory gives at most, by copying or by the triad."""
        return max(self.values["copy_bytes_per_s"], self.values["triad_bytes_per_s"])


def machine_of(device: torch.device, threads: int) -> dict[str, str | int]:
    """What a calibration holds for."""
    library = (products.settle(device) or {"library": "device"})["library"]
    cuda = device.type == "cuda"
    return {
        "host": platform.node(),
        "device": torch.cuda.get_device_name(device) if cuda else processor(),
        "kind": device.type,
        "torch": torch.__version__,
        "products": str(library),
        "threads": threads,
    }


def file_of(machine: dict[str, str | int]) -> Path:
    """Where the calibration of a machine is kept."""
    return cache_folder() / f"calibration-{_digest(machine)}.json"


def remembered(device: torch.device, threads: int) -> Calibration | None:
    """The calibration of this machine; None if there is none that can be read."""
    machine = machine_of(device, threads)
    try:
        found = json.loads(file_of(machine).read_text())
        values = {str(name): float(value) for name, value in found["values"].items()}
        return Calibration(machine, values) if found["machine"] == machine else None
    except (OSError, ValueError, TypeError, LookupError, AttributeError):
        return None


def calibrate(device: torch.device, threads: int) -> Calibration:
    """Measure this machine, some seconds long, and keep what was found.

    The number of threads is as before afterwards.

    Raises:
        OSError: the cache folder cannot be written.
    """
    machine = machine_of(device, threads)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        found = Calibration(machine, _measured(device))
    finally:
        torch.set_num_threads(before)
    path = file_of(machine)
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    write_atomically(path, json.dumps({**asdict(found), "id": found.id}, indent=1).encode())
    return found


def as_text(found: Calibration) -> str:
    """A calibration in lines."""
    lines = [f"calibration {found.id}"]
    lines += [f"  {name:28} {value}" for name, value in found.machine.items()]
    lines += [f"  {name:28} {value:.4g}" for name, value in found.values.items()]
    return "\n".join([*lines, f"  kept in {file_of(found.machine)}"])


def _measured(device: torch.device) -> dict[str, float]:
    clock = clock_of(device)
    values: dict[str, float] = {}
    for name in DTYPES:
        if (peak := _products_per_s(device, getattr(torch, name), clock)) is not None:
            values[f"matmul_{name}_flops_per_s"] = peak
    values |= _memory(device, clock)
    values["timer_resolution_s"] = timer_resolution_s(time.perf_counter)
    values["noise_floor"] = _noise_floor(device, clock)
    return values


def _products_per_s(device: torch.device, dtype: torch.dtype, clock: Clock) -> float | None:
    """Operations per second of the fastest square product; None if torch has none of this type."""
    best = 0.0
    for size in SIZES[device.type]:
        try:
            step = _product(size, device, dtype)
            if clock.seconds(step, 1) > SLOW_S:
                break
        except RuntimeError:  # what torch raises where a type is not implemented
            break
        best = max(best, 2.0 * size**3 / _fastest_s(step, clock))
    return best or None


def _product(size: int, device: torch.device, dtype: torch.dtype) -> Callable[[], None]:
    left, right = (torch.ones(size, size, device=device, dtype=dtype) for _ in range(2))
    out = torch.empty_like(left)

    def step() -> None:
        torch.mm(left, right, out=out)

    return step


def _memory(device: torch.device, clock: Clock) -> dict[str, float]:
    a, b, c = (torch.ones(ARRAY_BYTES[device.type] // 4, device=device) for _ in range(3))
    n_bytes = 4 * a.numel()

    def copy() -> None:
        a.copy_(b)

    def triad() -> None:
        torch.add(b, c, alpha=3.0, out=a)

    return {
        "copy_bytes_per_s": 2 * n_bytes / _fastest_s(copy, clock),
        "triad_bytes_per_s": 3 * n_bytes / _fastest_s(triad, clock),
    }


def _noise_floor(device: torch.device, clock: Clock) -> float:
    step = _product(SIZES[device.type][0], device, torch.float32)
    pair = [warm_up(step, clock) for _ in range(2)]
    interleave(pair, clock, 2 * SECONDS, MIN_ROUNDS)
    first, second = (summarise(one.samples).p50 for one in pair)
    return max(first, second) / min(first, second)


def _fastest_s(step: Callable[[], None], clock: Clock) -> float:
    """Seconds of a step in its fastest block: a peak is what the machine can do at most."""
    timed: Timed = warm_up(step, clock)
    interleave([timed], clock, SECONDS, MIN_ROUNDS)
    samples: Samples = timed.samples
    return min(samples.seconds + samples.rejected)


def timer_resolution_s(now: Callable[[], float]) -> float:
    """The smallest step that a clock is seen to make."""
    steps = []
    for _ in range(N_TICKS):
        begun = ended = now()
        while ended == begun:
            ended = now()
        steps.append(ended - begun)
    return min(steps)


def _digest(data: object) -> str:
    return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()[:16]
