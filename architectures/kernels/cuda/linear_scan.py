"""The linear scan in Triton (jit/linear_scan.py) as the CUDA code of `seqbench::linear_scan`.

The operation's shapes, derivative and FLOPs are those of the code in C
(kernels/native/linear_scan.py). Chunks are cut so that about PROGRAMS programs run, but of no fewer
than CHUNK_TOKENS tokens: results depend on them by rounding alone.

B batch, T time, N state, P chunks. The decay a is (B or 1, T or 1, N).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from architectures.kernels.cuda.path import CudaPath
from architectures.kernels.native.library import implement, plain
from architectures.kernels.native.linear_scan import strides_of
from architectures.kernels.paths import note

PROGRAMS = 1024  # several for each of the 132 multiprocessors of an H100
CHUNK_TOKENS = 64
TILE, BLOCK = 32, 32  # tokens and columns; 32 columns of float32 are one cache line


def _load() -> Any:
    from architectures.kernels.cuda.jit import linear_scan

    return linear_scan


# float32 against float64 over some dozen tokens; a wrong sign gives about 1.
PATH = CudaPath("linear_scan", "triton", _load, dtypes=(torch.float32, torch.complex64), bound=1e-5)


def _forward(a: Tensor, b: Tensor, state: Tensor) -> Tensor:
    a, b, state = plain(a), plain(b), plain(state)
    note("linear_scan", PATH.package)
    states, _ = _scan(a, b, state)
    return states


def _backward(
    a: Tensor, states: Tensor, state: Tensor, grad_states: Tensor, wants_a: bool
) -> tuple[Tensor, Tensor]:
    a, states, state, grad_states = map(plain, (a, states, state, grad_states))
    grad_b, grad_a = _scan(a, grad_states, None, (states, state), wants_a=wants_a)
    if not wants_a:
        return a.new_empty(0), grad_b
    # From (B, T, N), or (B, P, N) where a is constant in time.
    return grad_a.sum_to_size(a.shape), grad_b


def _scan(
    a: Tensor,
    x: Tensor,
    state: Tensor | None,
    before: tuple[Tensor, Tensor] | None = None,
    *,
    wants_a: bool = False,
) -> tuple[Tensor, Tensor]:
    """Scan x (B, T, N) from `state` (B, N), zeros if None.

    In reverse if `before` is given, the states and the first state of the scan to walk back; then
    also the gradient of a, if wanted: for each token, or each chunk's sum.
    """
    code = _load()
    n_rows, length, n_state = x.shape
    n_blocks = -(-n_state // BLOCK)
    n_tokens = chunk_tokens(n_rows * n_blocks, length)
    n_chunks = max(1, -(-length // n_tokens))
    shared = {"COMPLEX": x.is_complex(), "BLOCK": BLOCK}
    steps = {**shared, "REVERSE": before is not None, "TILE": TILE}
    sizes = length, n_state, n_tokens, n_chunks, *strides_of(a)
    grid = (n_rows * n_chunks, n_blocks)
    y = torch.empty_like(x)
    start = x.new_zeros(n_rows, n_state) if state is None else state
    sums_a = a.shape[1] == 1
    shape = n_rows, n_chunks if sums_a else length, n_state
    grad_a = x.new_empty(shape if wants_a else (0,))
    if y.numel() == 0:
        return y, grad_a.zero_()
    a, x_, start, y_, grad_a_ = map(_floats, (a, x, start, y, grad_a))
    states, first = map(_floats, before) if before is not None else (x_, start)
    with torch.cuda.device_of(x):  # Triton launches on the current device
        starts = start
        if n_chunks > 1:
            starts, ends, products = (
                start.new_empty((n_rows, n_chunks, *start.shape[1:])) for _ in range(3)
            )
            code.chunk_ends[grid](a, x_, ends, products, *sizes, **steps)
            carry = ends, products, start, starts, n_state, n_chunks
            code.chunk_starts[(n_rows, n_blocks)](*carry, **shared, num_warps=1)
        code.scan[grid](
            *(a, x_, starts, y_, states, first, grad_a_, *sizes),
            **{**steps, "WANTS_A": wants_a, "SUMS_A": sums_a},
        )
    return y, grad_a


def chunk_tokens(n_programs: int, length: int) -> int:
    """The tokens of a chunk, where one chunk for each row would make `n_programs` programs."""
    n_chunks = max(1, PROGRAMS // max(n_programs, 1))
    return min(max(length, 1), max(CHUNK_TOKENS, -(-length // n_chunks)))


def _floats(x: Tensor) -> Tensor:
    """Complex numbers as pairs of floats: the same memory."""
    return torch.view_as_real(x) if x.is_complex() else x


implement("linear_scan", _forward, "CUDA")
implement("linear_scan_backward", _backward, "CUDA")
