"""Peak memory of two training steps in a fresh process.

On CUDA: the allocator's peak after a reset. On a CPU: the peak resident set over a baseline taken
after a tiny model of the same kind has been trained, so that libraries loaded on first use are not
counted. Two steps, because the optimiser's state exists from the second one on.
"""

from __future__ import annotations

import ctypes
import gc
from collections.abc import Callable
from pathlib import Path

import torch

from architectures.body import UnsupportedError
from bench.measure.step import TrainingStep
from bench.spec import Run
from bench.training import products
from bench.training.execute import device_of, prepare
from tasks.task import Batch, Kind

M_MMAP_THRESHOLD = -3  # mallopt's number for it, from malloc.h
MMAP_BYTES = 1 << 16
"""Larger blocks go back to the system when they are freed, so that the resident set follows."""
TINY_TOKENS = 16


def measure(run: Run) -> dict[str, float | int | str | None]:
    """The peak of a run's training step, in bytes, and the method.

    Has to be called once, in a process that has not trained anything.
    """
    device = device_of(run)
    products.settle(device)
    if device.type == "cuda":
        return _cuda(run, device)
    if not Path("/proc/self/clear_refs").exists():
        raise UnsupportedError("the peak memory of a process is read from Linux's /proc")
    peak = peak_resident_bytes(
        lambda: _two_steps(run, device), lambda: _train_a_little(run, device)
    )
    return {"peak_bytes": peak, "memory_method": "resident"}


def peak_resident_bytes(action: Callable[[], None], rehearsal: Callable[[], None]) -> int:
    """How far the resident set rises in `action`, after `rehearsal` has loaded what it needs."""
    libc = ctypes.CDLL(None)
    libc.mallopt(M_MMAP_THRESHOLD, MMAP_BYTES)
    rehearsal()
    gc.collect()
    libc.malloc_trim(0)
    baseline = _status_bytes("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts again from here
    action()
    return max(0, _status_bytes("VmHWM") - baseline)


def _cuda(run: Run, device: torch.device) -> dict[str, float | int | str | None]:
    _train_a_little(run, device)
    gc.collect()
    torch.cuda.empty_cache()
    baseline = torch.cuda.memory_allocated(device)
    torch.cuda.reset_peak_memory_stats(device)
    _two_steps(run, device)
    torch.cuda.synchronize(device)
    return {
        "peak_bytes": torch.cuda.max_memory_allocated(device) - baseline,
        "peak_reserved_bytes": torch.cuda.max_memory_reserved(device),
        "memory_method": "cuda-allocated",
    }


def _two_steps(run: Run, device: torch.device) -> None:
    step = TrainingStep(prepare(run).to(device))
    step()
    step()


def _train_a_little(run: Run, device: torch.device) -> None:
    prepared = prepare(run).to(device)
    task = prepared.task
    batch = _shortened(task.examples("train", run.seed, torch.arange(1)).to(device), task.kind)
    loss, _ = task.loss(prepared.model.answer(batch), batch.targets)
    loss.backward()


def _shortened(batch: Batch, kind: Kind) -> Batch:
    """The first tokens of a batch, all of them real."""
    inputs = batch.inputs[:, :, :TINY_TOKENS] if kind == "pair" else batch.inputs[:, :TINY_TOKENS]
    targets = batch.targets[:, :TINY_TOKENS] if kind == "per_step" else batch.targets
    return Batch(inputs=inputs, targets=targets)


def _status_bytes(key: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{key}:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"/proc/self/status has no {key}")
