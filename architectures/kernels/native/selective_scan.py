"""The selective scan in C (selective_scan.c) as an operation of torch, for float32.

B batch, T time, D width, N state, P chunks of 32 tokens. Names as in kernels/selective_scan.py.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from architectures.kernels.native.library import (
    Kernel,
    define,
    differentiate_by,
    n_threads,
    plain,
)

CHUNK_TOKENS = 32  # CHUNK in selective_scan.c
# float32 against float64, the exponential's own error 1e-7 over some dozen tokens.
KERNEL = Kernel("selective_scan", (torch.float32,), bound=1e-5)


def _forward(
    u: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor,
    state: Tensor,
    keep_starts: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return y (B, T, D), the final state (B, D, N), and the states at which chunks start."""
    tensors = [plain(tensor) for tensor in (u, dt, A, B, C, D, state)]
    n_rows, length, width = u.shape
    n_state, lanes = A.shape[1], KERNEL.call("lanes")
    y, final = torch.empty_like(tensors[0]), torch.empty_like(tensors[-1])
    # As the walk back reads them: (B, P, blocks of channels, N, channels of a block).
    shape = n_rows, -(-length // CHUNK_TOKENS), -(-width // lanes), n_state, lanes
    starts = u.new_empty(shape if keep_starts else (0,))
    scratch = u.new_empty(n_threads() * 2 * n_state * lanes)
    KERNEL.call(
        "selective_scan",
        *(*tensors, y, final, starts if keep_starts else None, scratch),
        *(n_rows, length, width, n_state, n_threads()),
    )
    return y, final, starts


def _backward(
    u: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor,
    starts: Tensor,
    grad_y: Tensor,
    grad_final: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Return the gradients of u, dt, A, B, C, D and the state."""
    tensors = [plain(tensor) for tensor in (u, dt, A, B, C, D, starts, grad_y, grad_final)]
    n_rows, length, width = u.shape
    n_state, lanes, threads = A.shape[1], KERNEL.call("lanes"), n_threads()
    n_blocks = -(-width // lanes)
    # Rows go to threads; where there are fewer rows, their channels are divided as well.
    groups = max(1, min(n_blocks, -(-threads // max(n_rows, 1))))
    grad_u, grad_dt = u.new_empty(u.shape), u.new_empty(u.shape)
    grad_A, grad_D = u.new_empty(n_rows, width, n_state), u.new_empty(n_rows, width)
    grad_B = u.new_empty(groups, n_rows, length, n_state)
    grad_C = u.new_empty(grad_B.shape)
    grad_state = u.new_empty(n_rows, width, n_state)
    vectors = KERNEL.call("backward_vectors", n_state, -(-n_blocks // groups))
    scratch = u.new_empty(threads * vectors * lanes)
    KERNEL.call(
        "selective_scan_backward",
        *(*tensors, grad_u, grad_dt, grad_A, grad_B, grad_C, grad_D, grad_state, scratch),
        *(n_rows, length, width, n_state, groups, threads),
    )
    return (
        *(grad_u, grad_dt, grad_A.sum(0), grad_B.sum(0), grad_C.sum(0)),
        *(grad_D.sum(0), grad_state),
    )


def _fake(
    u: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor,
    state: Tensor,
    keep_starts: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    n_rows, length, width = u.shape
    lanes = KERNEL.call("lanes")
    shape = n_rows, -(-length // CHUNK_TOKENS), -(-width // lanes), A.shape[1], lanes
    starts = u.new_empty(shape if keep_starts else (0,))
    return u.new_empty(u.shape), u.new_empty(state.shape), starts


def _fake_backward(
    u: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor,
    starts: Tensor,
    grad_y: Tensor,
    grad_final: Tensor,
) -> tuple[Tensor, ...]:
    return tuple(tensor.new_empty(tensor.shape) for tensor in (u, dt, A, B, C, D, grad_final))


def _flops(u: Tensor, dt: Tensor, A: Tensor, *_: object) -> float:
    """As `selective_scan_flops_per_token` counts them."""
    return u.numel() * (7 * A.shape[1] + 3)


def _backward_flops(u: Tensor, dt: Tensor, A: Tensor, *_: object) -> float:
    """The states again (5 for each), and 13 for the gradients; 8 for each channel."""
    return u.numel() * (18 * A.shape[1] + 8)


def _remember(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    ctx.save_for_backward(*inputs[:6], output[2])
    ctx.mark_non_differentiable(output[2])
    ctx.set_materialize_grads(False)  # else zeros for the starts too


def _differentiate(
    ctx: Any, grad_y: Tensor | None, grad_final: Tensor | None, grad_starts: None
) -> tuple[Tensor | None, ...]:
    *inputs, starts = ctx.saved_tensors
    u, _, A = inputs[:3]
    grad_y = torch.zeros_like(u) if grad_y is None else grad_y
    grad_final = u.new_zeros(u.shape[0], *A.shape) if grad_final is None else grad_final
    return (*WALK_BACK(*inputs, starts, grad_y, grad_final), None)


SCAN = define(
    "selective_scan(Tensor u, Tensor dt, Tensor A, Tensor B, Tensor C, Tensor D, Tensor state, "
    "bool keep_starts) -> (Tensor, Tensor, Tensor)",
    _forward,
    _fake,
    _flops,
)
"""(u, dt, A, B, C, D, state, keep_starts) -> y, final state, starts of chunks"""
WALK_BACK = define(
    "selective_scan_backward(Tensor u, Tensor dt, Tensor A, Tensor B, Tensor C, Tensor D, "
    "Tensor starts, Tensor grad_y, Tensor grad_final) "
    "-> (Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)",
    _backward,
    _fake_backward,
    _backward_flops,
)
differentiate_by("selective_scan", _remember, _differentiate)
