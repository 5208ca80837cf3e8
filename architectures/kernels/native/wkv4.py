"""The wkv of RWKV-4 in C (wkv4.c) as an operation of torch, for float32.

B batch, T time, E width, P chunks of 32 tokens. Names as in kernels/wkv4.py.
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

CHUNK_TOKENS = 32  # CHUNK in wkv4.c
# float32 against float64 over some dozen tokens.
KERNEL = Kernel("wkv4", (torch.float32,), bound=1e-5)


def _forward(
    w: Tensor,
    u: Tensor,
    k: Tensor,
    v: Tensor,
    a: Tensor,
    b: Tensor,
    p: Tensor,
    lengths: Tensor | None,
    keep_starts: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Return y (B, T, E), the state's three (B, E), and the states at which chunks start."""
    tensors = [plain(tensor) for tensor in (w, u, k, v, a, b, p)]
    y = torch.empty_like(tensors[2])
    final = [torch.empty_like(tensors[4]) for _ in range(3)]
    starts = k.new_empty(_starts_shape(k) if keep_starts else (0,))
    KERNEL.call(
        "wkv4",
        *(*tensors, _whole(lengths), y, *final, starts if keep_starts else None),
        *(*k.shape, n_threads()),
    )
    return y, final[0], final[1], final[2], starts


def _backward(
    w: Tensor,
    u: Tensor,
    k: Tensor,
    v: Tensor,
    lengths: Tensor | None,
    starts: Tensor,
    grad_y: Tensor,
    grad_a: Tensor,
    grad_b: Tensor,
    grad_p: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Return the gradients of w, u, k, v and of the state's three."""
    before = [plain(tensor) for tensor in (w, u, k, v)]
    after = [plain(tensor) for tensor in (starts, grad_y, grad_a, grad_b, grad_p)]
    grad_k, grad_v = k.new_empty(k.shape), k.new_empty(k.shape)
    grad_w, grad_u, *grad_state = (k.new_empty(k.shape[0], k.shape[2]) for _ in range(5))
    KERNEL.call(
        "wkv4_backward",
        *(*before, _whole(lengths), *after),
        *(grad_w, grad_u, grad_k, grad_v, *grad_state, *k.shape, n_threads()),
    )
    grad_a, grad_b, grad_p = grad_state
    return grad_w.sum(0), grad_u.sum(0), grad_k, grad_v, grad_a, grad_b, grad_p


def _whole(lengths: Tensor | None) -> Tensor | None:
    return None if lengths is None else lengths.to(torch.int64).contiguous()


def _starts_shape(k: Tensor) -> tuple[int, ...]:
    """As the walk back reads them: (B, P, blocks of channels, 3, channels of a block)."""
    n_rows, length, width = k.shape
    lanes = KERNEL.call("lanes")
    return n_rows, -(-length // CHUNK_TOKENS), -(-width // lanes), 3, lanes


def states_shape(k: Tensor) -> tuple[int, ...]:
    """What is kept on other devices (kernels/cuda/wkv4.py), the state before each token."""
    n_rows, length, width = k.shape
    return n_rows, length, 3, width


def _fake(
    w: Tensor,
    u: Tensor,
    k: Tensor,
    v: Tensor,
    a: Tensor,
    b: Tensor,
    p: Tensor,
    lengths: Tensor | None,
    keep_starts: bool,
) -> tuple[Tensor, ...]:
    final = [tensor.new_empty(tensor.shape) for tensor in (a, b, p)]
    kept = _starts_shape if k.device.type == "cpu" else states_shape
    return k.new_empty(k.shape), *final, k.new_empty(kept(k) if keep_starts else (0,))


def _fake_backward(
    w: Tensor,
    u: Tensor,
    k: Tensor,
    v: Tensor,
    lengths: Tensor | None,
    starts: Tensor,
    grad_y: Tensor,
    grad_a: Tensor,
    grad_b: Tensor,
    grad_p: Tensor,
) -> tuple[Tensor, ...]:
    return tuple(x.new_empty(x.shape) for x in (w, u, k, v, grad_a, grad_b, grad_p))


def _flops(w: Tensor, u: Tensor, k: Tensor, *_: object) -> float:
    """As `wkv4_flops_per_token` counts them."""
    return 15 * k.numel()


def _backward_flops(w: Tensor, u: Tensor, k: Tensor, *_: object) -> float:
    """The steps twice more, and 27 for the gradients."""
    return (2 * 15 + 27) * k.numel()


def _remember(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    w, u, k, v, _, _, _, lengths, _ = inputs
    ctx.save_for_backward(w, u, k, v, lengths, output[4])
    ctx.mark_non_differentiable(output[4])
    ctx.set_materialize_grads(False)  # else zeros for the starts too


def _differentiate(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
    k = ctx.saved_tensors[2]
    shapes = k.shape, *(3 * [k.shape[::2]])  # y (B, T, D), and a, b and p (B, D)
    given = (
        k.new_zeros(shape) if gradient is None else gradient
        for shape, gradient in zip(shapes, gradients[:4], strict=True)
    )
    return (*WALK_BACK(*ctx.saved_tensors, *given), None, None)


SCAN = define(
    "wkv4(Tensor w, Tensor u, Tensor k, Tensor v, Tensor a, Tensor b, Tensor p, Tensor? lengths, "
    "bool keep_starts) -> (Tensor, Tensor, Tensor, Tensor, Tensor)",
    _forward,
    _fake,
    _flops,
)
"""(w, u, k, v, a, b, p, lengths, keep_starts) -> y, a, b, p, starts of chunks"""
WALK_BACK = define(
    "wkv4_backward(Tensor w, Tensor u, Tensor k, Tensor v, Tensor? lengths, Tensor starts, "
    "Tensor grad_y, Tensor grad_a, Tensor grad_b, Tensor grad_p) "
    "-> (Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)",
    _backward,
    _fake_backward,
    _backward_flops,
)
differentiate_by("wkv4", _remember, _differentiate)
