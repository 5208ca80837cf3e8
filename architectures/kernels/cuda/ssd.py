"""mamba_ssm's chunked scan of Mamba-2: Dao and Gu 2024, https://arxiv.org/abs/2405.21060.

Its kernels (state-spaces/mamba, ops/triton/ssd_combined.py) multiply float32 matrices as Triton
does by default, with the mantissa of TF32, 10 bits. So they are taken only where the self-check
found float32's own accuracy (TRITON_F32_DEFAULT=ieee), or where a run lets products have fewer
bits: under autocast, or with torch's float32 matmul precision below `highest`.

B batch, T time, H heads, P width of a head, N state.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from architectures.kernels.cuda.path import CudaPath
from architectures.kernels.paths import note
from architectures.kernels.uncompiled import left_to_python

CHUNK_TOKENS = 256  # the authors' own (modules/mamba2.py)
FLOAT32_ERROR = 5e-5  # the reference in float32 is at 1.3e-5, a rounding to TF32 at 2.5e-4 or more


def _load() -> Any:
    from mamba_ssm.ops.triton.ssd_combined import mamba_chunk_scan_combined

    return mamba_chunk_scan_combined


# TF32 rounds to 5e-4, and gradients are sums of products of products; a wrong sign gives about 1.
PATH = CudaPath("ssd", "mamba_ssm", _load, bound=2e-2)


def takes(*tensors: Tensor) -> bool:
    """Whether the path runs for these: where it is right, and as accurate as is asked."""
    return PATH.takes(*tensors) and _is_accurate(tensors[0].device)


def _is_accurate(device: torch.device) -> bool:
    """Whether products of float32 matrices are those, or may have fewer bits."""
    if torch.is_autocast_enabled(device.type) or _may_round():
        return True
    return PATH.error_on(device) <= FLOAT32_ERROR


def _may_round() -> bool:
    """Whether torch is allowed fewer bits in products of float32 matrices."""
    try:
        return torch.get_float32_matmul_precision() != "highest"
    except RuntimeError:  # torch's answer where a CPU's setting is not that of CUDA
        backend: Any = torch.backends.cuda
        return bool(backend.matmul.fp32_precision == "tf32")


@left_to_python
def selective_ssd(
    u: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, state: Tensor | None
) -> tuple[Tensor, Tensor]:
    """As kernels/ssd.py has it: y (B, T, H, P) and the state (B, H, N, P) after the last token."""
    note("ssd", PATH.package)
    with torch.autocast(u.device.type, enabled=False):
        y, final = _load()(
            u,
            dt,
            A,
            B.unsqueeze(2),  # (B, T, 1, N): one group for all heads
            C.unsqueeze(2),
            CHUNK_TOKENS,
            D=D,
            initial_states=None if state is None else state.mT.contiguous(),  # (B, H, P, N)
            return_final_states=True,
        )
    return y, final.mT
