"""The causal depthwise convolution in C (causal_convolution.c) as an operation, for float32.

B batch, T time, D width, K taps.
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

MAX_TAPS = 16  # MAX_TAPS in causal_convolution.c
# float32 against float64: sums of a few dozen products.
KERNEL = Kernel("causal_convolution", (torch.float32,), bound=1e-5)


def _forward(x: Tensor, weight: Tensor, bias: Tensor, state: Tensor) -> Tensor:
    """Return y (B, T, D)."""
    x, bias, state, by_tap = plain(x), plain(bias), plain(state), plain(weight.t())
    y = torch.empty_like(x)
    KERNEL.call("convolve", x, state, by_tap, bias, y, *x.shape, weight.shape[1], n_threads())
    return y


def _backward(
    x: Tensor, weight: Tensor, state: Tensor, grad_y: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the gradients of x, weight, bias and state."""
    x, state, grad_y, by_tap = plain(x), plain(state), plain(grad_y), plain(weight.t())
    n_rows, _, width = x.shape
    grad_x, grad_state = torch.empty_like(x), torch.empty_like(state)
    grad_weight = x.new_empty(n_rows, weight.shape[1], width)
    grad_bias = x.new_empty(n_rows, width)
    KERNEL.call(
        "convolve_backward",
        *(x, state, by_tap, grad_y, grad_x, grad_state, grad_weight, grad_bias),
        *(*x.shape, weight.shape[1], n_threads()),
    )
    return grad_x, grad_weight.sum(0).t().contiguous(), grad_bias.sum(0), grad_state


def _remember(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
    x, weight, _, state = inputs
    ctx.save_for_backward(x, weight, state)


def _differentiate(ctx: Any, grad_y: Tensor) -> tuple[Tensor, ...]:
    gradients: tuple[Tensor, ...] = WALK_BACK(*ctx.saved_tensors, grad_y)
    return gradients


CONVOLVE = define(
    "causal_convolution(Tensor x, Tensor weight, Tensor bias, Tensor state) -> Tensor",
    _forward,
    lambda x, weight, bias, state: x.new_empty(x.shape),
    lambda x, weight, *_: 2 * x.numel() * weight.shape[1],
)
"""(x, weight, bias, state) -> y"""
WALK_BACK = define(
    "causal_convolution_backward(Tensor x, Tensor weight, Tensor state, Tensor grad_y) "
    "-> (Tensor, Tensor, Tensor, Tensor)",
    _backward,
    lambda x, weight, state, grad_y: (
        x.new_empty(x.shape),
        weight.new_empty(weight.shape),
        weight.new_empty(weight.shape[0]),
        state.new_empty(state.shape),
    ),
    lambda x, weight, *_: 4 * x.numel() * weight.shape[1],
)
differentiate_by("causal_convolution", _remember, _differentiate)
