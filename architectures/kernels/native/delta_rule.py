"""The delta rules in C (delta_rule.c) as one operation of torch, for float32.

The gated rule is the call without `a`, whose b is beta: it and log_decay are (B, T, H).

B batch, T time, H heads, N key width, P value width, C chunks of 16 tokens. Names as in
kernels/delta_rule.py.
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

CHUNK_TOKENS = 16  # CHUNK in delta_rule.c
# float32 against float64 over some dozen tokens, each with sums over the keys.
KERNEL = Kernel("delta_rule", (torch.float32,), bound=1e-5)


def _forward(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    a: Tensor | None,
    b: Tensor,
    log_decay: Tensor,
    state: Tensor,
    keep_starts: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return y (B, T, H, P), the final state, and the states at which chunks start."""
    tensors = [plain(tensor) for tensor in (q, k, v)]
    others = [plain(tensor) for tensor in (b, log_decay, state)]
    y, final = torch.empty_like(tensors[2]), torch.empty_like(others[2])
    starts = v.new_empty(_starts_shape(k, v) if keep_starts else (0,))
    vectors = KERNEL.call("forward_vectors", k.shape[3], v.shape[3])
    scratch = v.new_empty(n_threads() * vectors * KERNEL.call("lanes"))
    KERNEL.call(
        "delta_rule",
        *(*tensors, None if a is None else plain(a), *others),
        *(y, final, starts if keep_starts else None, scratch),
        *(*k.shape, v.shape[3], n_threads()),
    )
    return y, final, starts


def _backward(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    a: Tensor | None,
    b: Tensor,
    log_decay: Tensor,
    starts: Tensor,
    grad_y: Tensor,
    grad_final: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Return the gradients of q, k, v, a (empty for the gated rule), b, log_decay and the state."""
    tensors = [plain(tensor) for tensor in (q, k, v)]
    others = [plain(tensor) for tensor in (b, log_decay, starts, grad_y, grad_final)]
    grads = _gradients_like(q, k, v, a, b, log_decay, grad_final)
    vectors = KERNEL.call("backward_vectors", k.shape[3], v.shape[3])
    scratch = v.new_empty(n_threads() * vectors * KERNEL.call("lanes"))
    KERNEL.call(
        "delta_rule_backward",
        *(*tensors, None if a is None else plain(a), *others, *grads, scratch),
        *(*k.shape, v.shape[3], n_threads()),
    )
    return grads


def _gradients_like(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    a: Tensor | None,
    b: Tensor,
    log_decay: Tensor,
    state: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Contiguous memory for each of the gradients."""
    grad_q, grad_k, grad_v = (tensor.new_empty(tensor.shape) for tensor in (q, k, v))
    grad_a = k.new_empty((0,) if a is None else a.shape)
    grad_b, grad_decay, grad_state = (x.new_empty(x.shape) for x in (b, log_decay, state))
    return grad_q, grad_k, grad_v, grad_a, grad_b, grad_decay, grad_state


def _starts_shape(k: Tensor, v: Tensor) -> tuple[int, ...]:
    """As the walk back reads them: (B, H, C, blocks of keys, values, keys of a block)."""
    n_rows, length, heads, n_keys = k.shape
    lanes = KERNEL.call("lanes")
    values = -(-v.shape[3] // lanes) * lanes
    return n_rows, heads, -(-length // CHUNK_TOKENS), -(-n_keys // lanes), values, lanes


def _fake(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    a: Tensor | None,
    b: Tensor,
    log_decay: Tensor,
    state: Tensor,
    keep_starts: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    starts = v.new_empty(_starts_shape(k, v) if keep_starts else (0,))
    return v.new_empty(v.shape), state.new_empty(state.shape), starts


def _fake_backward(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    a: Tensor | None,
    b: Tensor,
    log_decay: Tensor,
    starts: Tensor,
    grad_y: Tensor,
    grad_final: Tensor,
) -> tuple[Tensor, ...]:
    return _gradients_like(q, k, v, a, b, log_decay, grad_final)


def flops_per_token(key_width: int, value_width: int, heads: int) -> float:
    """Per key and value: a S (2), the new S (5), q S (2). The chunked form has other numbers."""
    return 9.0 * heads * key_width * value_width


def _flops(q: Tensor, k: Tensor, v: Tensor, *_: object) -> float:
    return k.shape[0] * k.shape[1] * flops_per_token(k.shape[3], v.shape[3], k.shape[2])


def _backward_flops(q: Tensor, k: Tensor, v: Tensor, *_: object) -> float:
    """Per key and value: a S and the new S again (7), and 19 for the gradients."""
    return k.numel() * v.shape[3] * 26


def _remember(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    ctx.save_for_backward(*inputs[:6], output[2])
    ctx.mark_non_differentiable(output[2])
    ctx.set_materialize_grads(False)  # else zeros for the starts too


def _differentiate(
    ctx: Any, grad_y: Tensor | None, grad_final: Tensor | None, grad_starts: None
) -> tuple[Tensor | None, ...]:
    *inputs, starts = ctx.saved_tensors
    _, k, v, a = inputs[:4]
    state_shape = k.shape[0], k.shape[2], k.shape[3], v.shape[3]
    grad_y = torch.zeros_like(v) if grad_y is None else grad_y
    grad_final = v.new_zeros(state_shape) if grad_final is None else grad_final
    of_q, of_k, of_v, of_a, *others = WALK_BACK(*inputs, starts, grad_y, grad_final)
    return of_q, of_k, of_v, None if a is None else of_a, *others, None


SCAN = define(
    "delta_rule(Tensor q, Tensor k, Tensor v, Tensor? a, Tensor b, Tensor log_decay, "
    "Tensor state, bool keep_starts) -> (Tensor, Tensor, Tensor)",
    _forward,
    _fake,
    _flops,
)
"""(q, k, v, a, b, log_decay, state, keep_starts) -> y, final state, starts of chunks"""
WALK_BACK = define(
    "delta_rule_backward(Tensor q, Tensor k, Tensor v, Tensor? a, Tensor b, Tensor log_decay, "
    "Tensor starts, Tensor grad_y, Tensor grad_final) "
    "-> (Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)",
    _backward,
    _fake_backward,
    _backward_flops,
)
differentiate_by("delta_rule", _remember, _differentiate)
