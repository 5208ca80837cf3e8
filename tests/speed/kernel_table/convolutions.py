"""Convolutions: a short one for each channel, and the diagonal state space as a long one."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn.functional import conv1d, pad, silu

from architectures.kernels.causal_convolution import causal_convolution
from architectures.kernels.fft_convolution import (
    fft_convolution,
    fft_convolution_flops_per_token,
)
from architectures.kernels.s4d_kernel import s4d_kernel
from tests.speed.kernel_table.comparison import BATCH, STATE, WIDTH, Comparison, normal

TAPS = 4
S4D_LENGTH = 8192
KERNEL_FLOPS = 3 * 4.0 * WIDTH * STATE * S4D_LENGTH
"""The real product of two levels, 2 for each of two parts of n states."""


def short(device: torch.device) -> Iterator[Comparison]:
    """With its activation, as in a Mamba block."""
    yield Comparison(
        name="causal conv + silu T=2048",
        native=lambda *x: silu(causal_convolution(*x)[0]),
        peer_name="torch's conv1d",
        peer=torch_convolution,
        inputs=[
            normal(BATCH, 2048, WIDTH, device=device),
            normal(WIDTH, TAPS, device=device),
            normal(WIDTH, device=device),
        ],
        bound=1.4,
    )


def long(device: torch.device) -> Iterator[Comparison]:
    """S4D: the layer, and the making of its kernel."""
    z = torch.complex(
        -torch.rand(WIDTH, STATE, device=device) / 10, torch.randn(WIDTH, STATE, device=device)
    ).requires_grad_()
    weight = normal(WIDTH, STATE, device=device, dtype=torch.complex64)
    convolution = BATCH * S4D_LENGTH * WIDTH * fft_convolution_flops_per_token(S4D_LENGTH)
    yield Comparison(
        name=f"s4d layer T={S4D_LENGTH}",
        native=lambda z, weight, u: fft_convolution(u, s4d_kernel(z, weight, S4D_LENGTH)),
        peer_name="Vandermonde, FFT",
        peer=lambda z, weight, u: fft_convolution(u, vandermonde_kernel(z, weight)),
        inputs=[z, weight, normal(BATCH, WIDTH, S4D_LENGTH, device=device)],
        bound=2.0,
        flops=KERNEL_FLOPS + 3 * convolution,
        quick=False,
    )
    yield Comparison(
        name=f"s4d kernel T={S4D_LENGTH}",
        native=lambda z, weight: s4d_kernel(z, weight, S4D_LENGTH),
        peer_name="Vandermonde",
        peer=vandermonde_kernel,
        inputs=[z, weight],
        bound=15.0,
        flops=KERNEL_FLOPS,
    )


def torch_convolution(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """The same by torch's depthwise convolution, which wants channels before time."""
    padded = pad(x.transpose(1, 2), (TAPS - 1, 0))
    return silu(conv1d(padded, weight.unsqueeze(1), bias, groups=WIDTH).transpose(1, 2))


def vandermonde_kernel(z: Tensor, weight: Tensor) -> Tensor:
    """2 Re(sum_n weight exp(l z)), an exponential for each l and n: (H, T)."""
    times = torch.arange(S4D_LENGTH, device=z.device)
    powers = (z.unsqueeze(2) * times).exp()  # (H, n, T)
    return 2 * torch.einsum("hn,hnt->ht", weight, powers).real
