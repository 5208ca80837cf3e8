"""causal_conv1d's depthwise convolution (Dao-AILab/causal-conv1d) for inputs with channels last.

Its kernels take 2 to 4 taps, and with channels last, which carried inputs need, widths and strides
that are multiples of 8. Sums are of float32; y is rounded to x's dtype, as under autocast, before
it takes on that of the weights.

B batch, T time, D width, K taps.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from architectures.kernels.cuda.path import CudaPath
from architectures.kernels.paths import note
from architectures.kernels.uncompiled import left_to_python

TAPS = range(2, 5)
MULTIPLE = 8  # of width and strides
DTYPES = torch.float32, torch.float16, torch.bfloat16


def _load() -> Any:
    from causal_conv1d import causal_conv1d_fn

    return causal_conv1d_fn


# float32 against float64: sums of a few dozen products.
PATH = CudaPath("causal_convolution", "causal_conv1d", _load, dtypes=DTYPES, bound=1e-5)


def takes(x: Tensor, weight: Tensor, bias: Tensor, state: Tensor) -> bool:
    """Whether the path runs for these, x and state of one dtype and weight and bias of one."""
    if x.dtype not in DTYPES or weight.dtype not in DTYPES:
        return False
    if state.dtype != x.dtype or bias.dtype != weight.dtype:
        return False
    if weight.shape[1] not in TAPS or x.shape[2] % MULTIPLE or x.shape[1] == 0:
        return False
    return PATH.takes_device(x, weight, bias, state)


@left_to_python
def causal_convolution(x: Tensor, weight: Tensor, bias: Tensor, state: Tensor) -> Tensor:
    """As kernels/causal_convolution.py has it: y (B, T, D)."""
    note("causal_convolution", PATH.package)
    strides = x.stride()
    aligned = strides[2] == 1 and not any(n % MULTIPLE for n in (*strides[:2], x.storage_offset()))
    if not aligned or x.shape[1] == 1:
        x = x.clone(memory_format=torch.contiguous_format)
    y: Tensor = _load()(
        x.mT,  # (B, D, T), channels last in memory
        weight.contiguous(),
        bias,
        initial_states=state.contiguous().mT,  # (B, D, K - 1)
    )
    return y.mT.to(torch.promote_types(x.dtype, weight.dtype))
