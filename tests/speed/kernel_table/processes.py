"""What needs fresh processes: how memory is asked for, the peak of memory, and imports.

glibc's thresholds cannot be put back in a process, so a Mamba block is timed in one of its own
with those that a user gets, where most of mambapy's time goes into pages that it gives back and
asks for again, and in one with freed memory kept. Memory is what bench/measure/memory.py reads: how
far the resident set rises in one step. Imports are those of a new interpreter.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from typing import Literal, ParamSpec, TypeVar

import torch
from torch import Tensor

from tests.speed.kernel_table import mamba_block
from tests.speed.kernel_table.comparison import BATCH, normal
from tests.speed.kernel_table.timing import Outcome, Timer, compare, keep_freed_memory

DEFAULT_MALLOC, KEPT_MEMORY = ", default malloc", ", kept memory"
BLOCK_BOUNDS = {DEFAULT_MALLOC: 12.0, KEPT_MEMORY: 5.0}
MEMORY_BOUND = 5.0
IMPORT_BOUND = 1.0
IMPORT_ROUNDS = 5
TINY_TOKENS = 16

P = ParamSpec("P")
R = TypeVar("R")


@dataclass(frozen=True)
class Imports:
    """Seconds of a new interpreter that imports torch, or `architectures` and with it torch."""

    torch_s: float
    both_s: float
    noise: float
    compiled: list[str]

    @property
    def ratio(self) -> float:
        """The time for torch over the time for all else."""
        added = self.both_s - self.torch_s
        return self.torch_s / added if added > 0 else float("inf")


def fresh(function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """Call a function in a new interpreter."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(function, *args, **kwargs).result()


def timed_block(variant: str, timer: Timer, n_threads: int) -> Outcome:
    """Time the Mamba block; once in a process."""
    if variant == KEPT_MEMORY:
        keep_freed_memory()
    torch.set_num_threads(n_threads)
    torch.manual_seed(0)
    return compare(mamba_block.comparison(timer.device, BLOCK_BOUNDS[variant], variant), timer)


def block_peak_bytes(which: Literal["ours", "mambapy"], n_threads: int) -> int:
    """The peak of one step of the Mamba block, inputs and parameters apart."""
    from bench.measure.memory import peak_resident_bytes  # takes seconds: it imports the trainer

    torch.set_num_threads(n_threads)
    ours, theirs = mamba_block.blocks()
    block = ours if which == "ours" else theirs
    device = torch.device("cpu")
    sequence = BATCH, mamba_block.LENGTH, mamba_block.MODEL_WIDTH
    x = normal(*sequence, device=device)
    cotangent = torch.randn(sequence)

    def step(x: Tensor, cotangent: Tensor) -> None:
        y = block(x)[0] if which == "ours" else block(x)
        torch.autograd.grad(y, [x, *block.parameters()], cotangent)

    tiny_x, tiny_cotangent = (tensor.detach()[:, :TINY_TOKENS].clone() for tensor in (x, cotangent))
    return peak_resident_bytes(
        lambda: step(x, cotangent), lambda: step(tiny_x.requires_grad_(), tiny_cotangent)
    )


def time_imports(timer: Timer) -> Imports:
    """New interpreters in turns, with an empty cache for compiled code."""
    torch_s: list[float] = []
    both_s: list[float] = []
    again_s: list[float] = []
    with tempfile.TemporaryDirectory() as cache:
        for _ in range(1 if timer.quick else IMPORT_ROUNDS):
            for module, seconds in (
                ("torch", torch_s),
                ("architectures", both_s),
                ("torch", again_s),
            ):
                seconds.append(_import_s(module, cache, cpu=timer.cpu))
        compiled = sorted(path.name for path in Path(cache).rglob("*"))
    return Imports(
        torch_s=median(torch_s + again_s),
        both_s=median(both_s),
        noise=median(again_s) / median(torch_s),
        compiled=compiled,
    )


def _import_s(module: str, cache: str, *, cpu: bool) -> float:
    """Seconds of one interpreter, its own CPU's or the wall's."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(
        [sys.executable, "-c", f"import {module}"],
        check=True,
        env={**os.environ, "SEQBENCH_CACHE": cache},
    )
    wall, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return used if cpu else wall
