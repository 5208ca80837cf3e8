"""Native CPU kernels against the public implementations of the same operations.

    python tests/speed/kernels.py [--quick] [--threads 1]

Forward and backward, batch 8, float32. Candidates take turns in rounds, in blocks of at least
50 ms; blocks during which the process waited for a CPU are dropped while three others remain. With
one thread a block's time is the process's own CPU time, which a busy machine disturbs least: those
are the ratios to trust. With more threads it is wall time. A/A is the native kernel against itself,
the noise floor. Exits 1 where a ratio is below its bound. Freed memory stays with the process
(mallopt), for all alike: else pages that are asked for again and again cost more than most of the
operations. `--quick` times an operation of more than a second once. Needs mambapy (in the extra
`dev`).
"""

from __future__ import annotations

import argparse
import ctypes
import math
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from mambapy.pscan import pscan
from torch import Tensor, nn
from torch.nn.functional import logsigmoid, pad, silu

from architectures.kernels.causal_convolution import causal_convolution
from architectures.kernels.fft_convolution import fft_convolution
from architectures.kernels.linear_scan import linear_scan
from architectures.kernels.native.library import KERNELS, ready
from architectures.kernels.s4d_kernel import s4d_kernel
from architectures.kernels.selective_scan import selective_scan
from architectures.kernels.wkv4 import wkv4
from architectures.layers.recurrent import RecurrentStack

BATCH, WIDTH, STATE, TAPS = 8, 128, 16, 4
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # malloc.h
BLOCK_S, STOLEN = 0.05, 0.02
ROUNDS, QUICK_ROUNDS = 9, 3
SLOW_S = 1.0  # --quick times an operation that takes longer once
LEAST_CLEAN = 3  # blocks, of those that did not wait for a CPU

Call = Callable[..., Tensor]


@dataclass(frozen=True)
class Comparison:
    """Two implementations, what they are given, and how many times faster the first has to be."""

    name: str
    native: Call
    peer_name: str
    peer: Call
    inputs: Sequence[Tensor]
    bound: float
    peer_inputs: Sequence[Tensor] | None = None  # None: the same


def normal(*shape: int) -> Tensor:
    """Differentiable normal numbers."""
    return torch.randn(*shape).requires_grad_()


def mambapy_scan(u: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor) -> Tensor:
    """As mambapy's MambaBlock calls its parallel scan."""
    decay = (dt.unsqueeze(3) * A).exp()  # (B, T, D, N)
    states = pscan(decay, dt.unsqueeze(3) * B.unsqueeze(2) * u.unsqueeze(3))
    return (states @ C.unsqueeze(3)).squeeze(3) + D * u


def heinsen_scan(log_decay: Tensor, log_written: Tensor) -> Tensor:
    """h_t = a_t h_{t-1} + b_t of positive numbers in log space: https://arxiv.org/abs/2311.06281."""
    fallen = log_decay.cumsum(1)
    return (fallen + (log_written - fallen).logcumsumexp(1)).exp()


def naive_s4d(z: Tensor, weight: Tensor, u: Tensor) -> Tensor:
    """The kernel as a Vandermonde product of complex exponentials, then the same convolution."""
    times = torch.arange(u.shape[2])
    powers = (z.unsqueeze(2) * times).exp()  # (H, n, T)
    return fft_convolution(u, 2 * torch.einsum("hn,hnt->ht", weight, powers).real)


def comparisons() -> list[Comparison]:
    """All of them, in the order of the table."""
    # Where scripts are looked for first, transformers takes this file for the package `kernels`.
    sys.path.remove(str(Path(__file__).resolve().parent))
    from transformers.models.rwkv.modeling_rwkv import rwkv_linear_attention_cpu

    found = []
    for length in (512, 2048):
        rates = (-torch.rand(WIDTH, STATE) * STATE).requires_grad_()
        steps = (0.1 * torch.rand(BATCH, length, WIDTH)).requires_grad_()
        sequence, read = (BATCH, length, WIDTH), (BATCH, length, STATE)
        inputs = normal(*sequence), steps, rates, normal(*read), normal(*read), normal(WIDTH)
        found.append(
            Comparison(
                f"selective_scan N={STATE} T={length}",
                lambda *x: selective_scan(*x)[0],
                "mambapy pscan",
                mambapy_scan,
                inputs,
                20.0,
            )
        )
    for cell, module, widths in (
        ("gru", nn.GRU, {64: 10.0, 128: 5.0}),
        ("rnn", nn.RNN, {64: 4.0, 128: 2.0}),
    ):
        for width, bound in widths.items():
            layer = RecurrentStack(width, cell)  # type: ignore[arg-type]
            found.append(
                Comparison(
                    f"{cell} D={width} T=2048",
                    lambda x, *_, layer=layer: layer(x)[0],
                    f"torch.nn.{module.__name__}",
                    lambda x, *_, layer=layer: layer.recurrence(x)[0],
                    [normal(BATCH, 2048, width), *layer.parameters()],
                    bound,
                )
            )
    found.append(
        Comparison(
            "wkv4 T=2048",
            lambda w, u, k, v: wkv4(w.exp(), u, k, v)[0],
            "transformers' CPU loop",
            lambda w, u, k, v: rwkv_linear_attention_cpu(w, u, k, v)[0],
            [normal(WIDTH), normal(WIDTH), normal(8, 2048, WIDTH), normal(8, 2048, WIDTH)],
            80.0,
        )
    )
    for length, bound in ((512, 80.0), (2048, 50.0)):
        logs = logsigmoid(torch.randn(BATCH, length, WIDTH)), torch.randn(BATCH, length, WIDTH)
        found.append(
            Comparison(
                f"linear_scan T={length}",
                linear_scan,
                "log-space scan",
                heinsen_scan,
                [x.exp().requires_grad_() for x in logs],
                bound,
                [x.requires_grad_() for x in logs],
            )
        )
    bias = normal(WIDTH)
    found.append(
        Comparison(
            "causal conv + silu T=2048",
            lambda x, weight, bias: silu(causal_convolution(x, weight, bias)[0]),
            "torch conv1d",
            lambda x, weight, bias: silu(
                nn.functional.conv1d(
                    pad(x.transpose(1, 2), (TAPS - 1, 0)), weight.unsqueeze(1), bias, groups=WIDTH
                ).transpose(1, 2)
            ),
            [normal(BATCH, 2048, WIDTH), normal(WIDTH, TAPS), bias],
            1.4,
        )
    )
    z = torch.complex(-torch.rand(WIDTH, STATE) / 10, torch.randn(WIDTH, STATE))
    found.append(
        Comparison(
            f"s4d layer n={STATE} T=8192",
            lambda z, weight, u: fft_convolution(u, s4d_kernel(z, weight, u.shape[2])),
            "naive kernel",
            naive_s4d,
            [
                z.requires_grad_(),
                torch.randn(WIDTH, STATE, dtype=z.dtype).requires_grad_(),
                normal(BATCH, WIDTH, 8192),
            ],
            2.0,
        )
    )
    return found


class Candidate:
    """One implementation and the seconds of its blocks, those that waited for a CPU apart."""

    def __init__(self, call: Call, inputs: Sequence[Tensor], *, cpu_time: bool) -> None:
        self.call, self.inputs = call, inputs
        self.clock = time.process_time if cpu_time else time.perf_counter
        self.clean: list[float] = []
        self.disturbed: list[float] = []
        self.cotangent: Tensor | None = None
        self.steps = 1
        self.step()  # compiles, and warms up
        self.block()
        self.first_s = (self.clean + self.disturbed)[0]
        if self.first_s < SLOW_S:
            self.steps = math.ceil(BLOCK_S / self.first_s)
            self.clean, self.disturbed = [], []

    def step(self) -> None:
        """Forward and backward."""
        y = self.call(*self.inputs)
        if self.cotangent is None:
            self.cotangent = torch.randn_like(y)
        torch.autograd.grad(y, list(self.inputs), self.cotangent)

    def block(self) -> None:
        """Time a block."""
        waited, began, begun = waited_s(), time.perf_counter(), self.clock()
        for _ in range(self.steps):
            self.step()
        seconds = (self.clock() - begun) / self.steps
        lost = waited_s() - waited > STOLEN * (time.perf_counter() - began)
        (self.disturbed if lost else self.clean).append(seconds)

    def used(self) -> list[float]:
        """The blocks that count."""
        enough = len(self.clean) >= LEAST_CLEAN
        return self.clean if enough else self.clean + self.disturbed


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


def run(comparison: Comparison, rounds: int, *, cpu_time: bool, quick: bool) -> bool:
    """Print the line of one comparison; whether its bound is met."""
    native, again = (
        Candidate(comparison.native, comparison.inputs, cpu_time=cpu_time) for _ in range(2)
    )
    peer_inputs = comparison.peer_inputs or comparison.inputs
    peer = Candidate(comparison.peer, peer_inputs, cpu_time=cpu_time)
    for _ in range(rounds):
        for candidate in (native, peer, again):
            if not (quick and candidate.first_s > SLOW_S):
                candidate.block()
    mine = native.used() + again.used()
    ratio = float(np.median(peer.used()) / np.median(mine))
    floor = float(np.median(again.used()) / np.median(native.used()))
    low, high = np.percentile(mine, [25, 75]) * 1e3
    dropped = sum(len(c.disturbed) for c in (native, peer, again) if c.used() is c.clean)
    met = ratio >= comparison.bound
    print(
        f"{comparison.name:26} {1e3 * np.median(mine):8.2f} ms ({low:.2f}-{high:.2f})  "
        f"{comparison.peer_name:22} {1e3 * np.median(peer.used()):9.2f} ms  "
        f"{ratio:7.1f}x (bound {comparison.bound:g})  A/A {floor:.2f}  "
        f"dropped {dropped}/{3 * rounds}  {'met' if met else 'NOT MET'}",
        flush=True,
    )
    return met


def main() -> int:
    """Print the table and a summary."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few rounds, within a minute")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    keep_freed_memory()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    missing = [name for name in KERNELS if not ready(name)]
    if missing:
        print(f"no native code here for {', '.join(missing)}: nothing to compare")
        return 1
    cpu_time = arguments.threads == 1
    print(f"{arguments.threads} threads, {'CPU' if cpu_time else 'wall'} time, batch {BATCH}")
    rounds = QUICK_ROUNDS if arguments.quick else ROUNDS
    met = [
        run(comparison, rounds, cpu_time=cpu_time, quick=arguments.quick)
        for comparison in comparisons()
    ]
    print(f"{'ok' if all(met) else 'TOO SLOW'}: {sum(met)} of {len(met)} bounds are met")
    return 0 if all(met) else 1


if __name__ == "__main__":
    sys.exit(main())
