"""Causal depthwise convolution over a few tokens, with carried state.

    y_t = bias + sum_k weight_k x_{t - K + 1 + k}

In plain PyTorch a sum of K shifted products; in C for the CPU; by causal_conv1d on CUDA.

B batch, T time, D width, K taps.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from architectures.kernels.cuda import causal_convolution as cuda
from architectures.kernels.native import causal_convolution as native
from architectures.kernels.native.library import gradients, relative_error
from architectures.kernels.paths import REFERENCE, note

CPU = torch.device("cpu")


def causal_convolution(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    state: Tensor | None = None,
    lengths: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Convolve x (B, T, D) with weight (D, K) and add bias (D,).

    `state` (B, K - 1, D) are the inputs before x, zeros if None. Returns y (B, T, D) and the last
    K - 1 inputs: those before `lengths` (B,) if it is given.
    """
    n_rows, _, width = x.shape
    n_before = weight.shape[1] - 1
    if state is None:
        state = x.new_zeros(n_rows, n_before, width)
    if n_before < native.MAX_TAPS and native.KERNEL.takes(x, weight, bias, state):
        y: Tensor = native.CONVOLVE(x, weight, bias, state)
    elif cuda.takes(x, weight, bias, state):
        y = cuda.causal_convolution(x, weight, bias, state)
    else:
        note("causal_convolution", REFERENCE)
        y = causal_convolution_reference(x, weight, bias, state)
    return y, _last_inputs(x, state, lengths)


def causal_convolution_reference(x: Tensor, weight: Tensor, bias: Tensor, state: Tensor) -> Tensor:
    """Y (B, T, D) in plain PyTorch, for any device and dtype."""
    length, n_before = x.shape[1], weight.shape[1] - 1
    padded = torch.cat([state, x], dim=1)  # (B, K - 1 + T, D)
    y = torch.addcmul(bias, padded[:, :length], weight[:, 0])  # (B, T, D)
    for tap in range(1, n_before + 1):
        y = torch.addcmul(y, padded[:, tap : tap + length], weight[:, tap])
    return y


def _last_inputs(x: Tensor, state: Tensor, lengths: Tensor | None) -> Tensor:
    """The last K - 1 inputs (B, K - 1, D), those before `lengths` if it is given."""
    n_before = state.shape[1]
    if lengths is None:
        if x.shape[1] >= n_before:
            return x[:, x.shape[1] - n_before :].clone()  # a view would keep all of x
        return torch.cat([state[:, x.shape[1] :], x], dim=1)
    padded = torch.cat([state, x], dim=1)  # (B, K - 1 + T, D)
    time = lengths.unsqueeze(1) + torch.arange(n_before, device=x.device)  # (B, K - 1)
    return padded.gather(1, time.unsqueeze(2).expand(-1, -1, x.shape[2]))


def _self_check(
    device: torch.device = CPU, convolve: Callable[..., Tensor] = native.CONVOLVE
) -> float:
    """The largest error of fast code, with all gradients, against the reference in float64."""
    generator = torch.Generator().manual_seed(0)
    inputs = [
        torch.randn(*shape, generator=generator, dtype=torch.float64, device="cpu")
        for shape in ((2, 7, 8), (8, 4), (8,), (2, 3, 8))
    ]
    found = gradients(lambda *x: [convolve(*x)], [x.to(device, torch.float32) for x in inputs])
    exact = gradients(lambda *x: [causal_convolution_reference(*x)], inputs)
    return relative_error(found, exact)


native.KERNEL.check = _self_check
cuda.PATH.check = lambda device: _self_check(device, cuda.causal_convolution)
