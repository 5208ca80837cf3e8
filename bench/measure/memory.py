"""Peak memory of a training step and of inference, and where it goes: `footprint` says of what.

`memory_method` says how:

- `malloc-counter`, on a CPU: a new interpreter with a counter before glibc's allocator. Exact, and
  independent of what the allocator keeps, rounds, or was set to;
- `resident`, where that cannot be (`memory_method_reason`): the peak of the resident set. Pages
  that were never touched are missed, and so is memory that an arena had at hand;
- `cuda-allocated`: the peak of torch's allocator after a reset, with what it reserved and how often
  it had to give back its cache and try again.
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch

from architectures.body import UnsupportedError
from bench.errors import UserError
from bench.measure import malloc_counter
from bench.measure.footprint import footprint
from bench.measure.malloc_counter import CounterMissingError
from bench.measure.metrics import Metrics
from bench.spec import Run
from bench.training import products
from bench.training.execute import device_of, tail
from tasks.data.errors import DataError
from tasks.task import MissingPackageError

M_MMAP_THRESHOLD = -3  # mallopt's number for it, from malloc.h
MMAP_BYTES = 1 << 16
"""Larger blocks go back to the system when they are freed, so that the resident set follows."""
RAISED = {
    kind.__name__: kind
    for kind in (UnsupportedError, UserError, DataError, MissingPackageError, MemoryError)
}
"""Exceptions that mean something to a row, by the name that another process gives them."""
STARVED = ("bad_alloc", "out of memory", "cannot allocate memory")
"""What a process says, in small letters, that ends because it was refused memory."""


def measure(run: Run) -> Metrics:
    """The peaks of a run and their parts, in bytes, and the method.

    Has to be called once, in a process that has not trained anything.

    Raises:
        UnsupportedError: there is no way to know here.
        MemoryError: the step does not fit.
    """
    device = device_of(run)
    if device.type == "cuda":
        products.settle(device)
        return footprint(run, device, CudaMeter(device))
    try:
        return _counted(run)
    except CounterMissingError as error:
        reason = str(error)
    if not Path("/proc/self/clear_refs").exists():
        raise UnsupportedError(
            f"the peak memory of a process is read from Linux's /proc, and {reason}"
        )
    products.settle(device)
    return {**footprint(run, device, ResidentMeter()), "memory_method_reason": reason}


def peak_resident_bytes(action: Callable[[], None], rehearsal: Callable[[], None]) -> int:
    """How far the resident set rises in `action`, after `rehearsal` has loaded what it needs."""
    meter = ResidentMeter()
    rehearsal()
    gc.collect()
    meter.settle()
    baseline = meter.live()
    meter.reset_peak()
    action()
    return max(0, meter.peak() - baseline)


class ResidentMeter:
    """The resident set of this process."""

    method = "resident"

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None)
        if hasattr(self._libc, "mallopt"):
            self._libc.mallopt(M_MMAP_THRESHOLD, MMAP_BYTES)

    def live(self) -> int:
        """Bytes that are resident now."""
        return _status_bytes("VmRSS")

    def reset_peak(self) -> None:
        """Let the peak start again from what is resident now."""
        Path("/proc/self/clear_refs").write_text("5")

    def peak(self) -> int:
        """The most bytes that were resident at a time since the reset."""
        return _status_bytes("VmHWM")

    def settle(self) -> None:
        """Give back what is freed: memory at hand would not be seen to be taken again."""
        if hasattr(self._libc, "malloc_trim"):
            self._libc.malloc_trim(0)

    def extra(self) -> dict[str, int]:
        """Nothing beside the peak."""
        return {}


class CudaMeter:
    """Torch's allocator on a CUDA device."""

    method = "cuda-allocated"

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._retries = 0

    def live(self) -> int:
        """Bytes that tensors take now."""
        return torch.cuda.memory_allocated(self._device)

    def reset_peak(self) -> None:
        """Let the peaks start again from what is taken now."""
        torch.cuda.synchronize(self._device)
        torch.cuda.reset_peak_memory_stats(self._device)
        self._retries = self._retries_so_far()

    def peak(self) -> int:
        """The most bytes that tensors took at a time since the reset."""
        torch.cuda.synchronize(self._device)
        return torch.cuda.max_memory_allocated(self._device)

    def settle(self) -> None:
        """Give back what the allocator keeps: it is part of what is reserved."""
        torch.cuda.empty_cache()

    def extra(self) -> dict[str, int]:
        """What was reserved at most since the reset, and how often the allocator tried again."""
        return {
            "peak_reserved_bytes": torch.cuda.max_memory_reserved(self._device),
            "allocator_retries": self._retries_so_far() - self._retries,
        }

    def _retries_so_far(self) -> int:
        return int(torch.cuda.memory_stats(self._device).get("num_alloc_retries", 0))


def _counted(run: Run) -> Metrics:
    """Measure in a new interpreter with the counter; a fork could not preload it."""
    libraries = [str(malloc_counter.library()), os.environ.get("LD_PRELOAD", "")]
    environment = {
        **os.environ,
        "LD_PRELOAD": ":".join(filter(None, libraries)),
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
    }
    with tempfile.TemporaryDirectory() as folder:
        result, log = Path(folder) / "result", Path(folder) / "log"
        command = [sys.executable, "-P", "-m", "bench.measure.counted", str(result)]
        with (
            log.open("wb") as output,
            subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=environment,
                text=True,
            ) as process,
        ):
            assert process.stdin is not None
            try:
                process.stdin.write(f"{run.model_dump_json()}\n")
                process.stdin.flush()
            except BrokenPipeError:
                pass  # it has ended already, and its log says why
            code = process.wait()
        said = log.read_text(errors="replace")
        sys.stderr.write(said)
        if not result.exists():
            lines = said.strip().splitlines() or [f"it ended with {code}"]
            raise CounterMissingError(f"the process with the malloc counter: {lines[-1]}")
        told = result.read_text()
    if not told:
        raise _death(code, said)
    answer = json.loads(told)
    if "metrics" in answer:
        metrics: Metrics = answer["metrics"]
        return metrics
    raise _raised(**answer)


def _raised(error: str, message: str, traceback: str) -> Exception:
    """The exception of another process: of the same class, where that means something."""
    kind = RAISED.get(error)
    if kind is None:  # RuntimeError is torch's own for what an allocator refuses
        message = message if error == "RuntimeError" else f"{error}: {message}"
    raised = (kind or RuntimeError)(message)
    raised.add_note(f"In the measuring process:\n{traceback}")
    return raised


def _death(code: int, said: str) -> Exception:
    """What it means that a process ended without an answer."""
    cause = f"died of {signal.Signals(-code).name}" if code < 0 else f"ended with {code}"
    reason = f"the measuring process {cause}"
    starved = any(sign in said.lower() for sign in STARVED)
    raised: Exception = MemoryError(reason) if starved else RuntimeError(reason)
    raised.add_note(tail(said))
    return raised


def _status_bytes(key: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{key}:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"/proc/self/status has no {key}")
