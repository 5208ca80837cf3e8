"""Causal convolution with a kernel as long as the sequence, by the fast Fourier transform.

    y_t = sum_{s <= t} kernel_{t - s} u_s

B batch, H channels, T time.
"""

from __future__ import annotations

import math

import torch
from scipy.fft import next_fast_len
from torch import Tensor

from architectures.kernels.paths import FFT, note


def fft_convolution(u: Tensor, kernel: Tensor) -> Tensor:
    """Convolve each channel of u (B, H, T) with kernel (H, T): y (B, H, T).

    The transforms span at least 2T - 1 points, so that nothing wraps around from the end.
    """
    note("fft_convolution", FFT)
    length = u.shape[-1]
    n_points = next_fast_len(2 * length - 1, real=True)
    spectrum = torch.fft.rfft(u, n_points) * torch.fft.rfft(kernel, n_points)  # (B, H, F)
    y: Tensor = torch.fft.irfft(spectrum, n_points)
    return y[..., :length]


def fft_convolution_flops_per_token(length: int) -> float:
    """Operations per channel and token: two real transforms of 2T points and their product.

    A real transform of n points takes 5/2 n log2 n. The kernel's is shared by the batch and is
    not counted.
    """
    n_points = next_fast_len(2 * length - 1, real=True)
    # A complex product, 6 operations, at each of n/2 frequencies.
    transforms = 2 * 2.5 * n_points * math.log2(n_points)
    return (transforms + 3 * n_points) / length
