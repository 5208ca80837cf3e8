"""The linear scan in C (linear_scan.c) as an operation of torch, for float32 and complex64.

B batch, T time, N state. The decay a is (B or 1, T or 1, N).
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

# float32 against float64 over some dozen tokens; a wrong sign gives about 1.
KERNEL = Kernel("linear_scan", (torch.float32, torch.complex64), bound=1e-5)


def _forward(a: Tensor, b: Tensor, state: Tensor) -> Tensor:
    a, b, state = plain(a), plain(b), plain(state)
    states = torch.empty_like(b)
    function = "scan_complex" if b.is_complex() else "scan"
    KERNEL.call(function, a, b, state, states, *b.shape, *_strides(a), n_threads())
    KERNEL.ran.add(b.dtype)
    return states


def _backward(
    a: Tensor, states: Tensor, state: Tensor, grad_states: Tensor, wants_a: bool
) -> tuple[Tensor, Tensor]:
    a, states, state, grad_states = map(plain, (a, states, state, grad_states))
    grad_b = torch.empty_like(states)
    n_rows, _, n_state = states.shape
    # In C a sum over time where a is constant; the sum over rows is taken here.
    grad_a = states.new_empty((n_rows, a.shape[1], n_state) if wants_a else (0,))
    function = "scan_complex_backward" if states.is_complex() else "scan_backward"
    tensors = a, states, state, grad_states, grad_b, grad_a if wants_a else None
    KERNEL.call(function, *tensors, *states.shape, *_strides(a), n_threads())
    if wants_a and a.shape[0] != n_rows:
        grad_a = grad_a.sum(0, keepdim=True)
    return grad_a, grad_b


def _strides(a: Tensor) -> tuple[int, int]:
    """Numbers from one row and from one token of a contiguous a to the next; 0 if there is one."""
    n_rows, length, n_state = a.shape
    return (0 if n_rows == 1 else length * n_state), (0 if length == 1 else n_state)


def _flops(a: Tensor, b: Tensor, state: Tensor) -> float:
    return (8 if b.is_complex() else 2) * b.numel()


def _backward_flops(
    a: Tensor, states: Tensor, state: Tensor, grad_states: Tensor, wants_a: bool
) -> float:
    """The scan back, and one multiplication of each element for the gradient of a."""
    return ((8 if a.is_complex() else 2) + wants_a * (6 if a.is_complex() else 1)) * states.numel()


def _remember(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor], output: Tensor) -> None:
    a, _, state = inputs
    ctx.save_for_backward(a, output, state)


def _differentiate(
    ctx: Any, grad_states: Tensor
) -> tuple[Tensor | None, Tensor, Tensor | None]:
    a, states, state = ctx.saved_tensors
    wants_a, _, wants_state = ctx.needs_input_grad
    grad_a, grad_b = WALK_BACK(a, states, state, grad_states, wants_a)
    grad_state = a[:, 0].conj() * grad_b[:, 0] if wants_state else None
    return grad_a if wants_a else None, grad_b, grad_state


SCAN = define(
    "linear_scan(Tensor a, Tensor b, Tensor state) -> Tensor",
    _forward,
    lambda a, b, state: b.new_empty(b.shape),
    _flops,
)
"""(a, b, state) -> states"""
WALK_BACK = define(
    "linear_scan_backward("
    "Tensor a, Tensor states, Tensor state, Tensor grad_states, bool wants_a) -> (Tensor, Tensor)",
    _backward,
    lambda a, states, state, grad_states, wants_a: (
        a.new_empty(a.shape if wants_a else (0,)),
        states.new_empty(states.shape),
    ),
    _backward_flops,
)
differentiate_by("linear_scan", _remember, _differentiate)
