"""mamba_ssm's selective scan: Gu and Dao 2023, https://arxiv.org/abs/2312.00752, section 3.3.

Its kernel (state-spaces/mamba, ops/selective_scan_interface.py) has no initial state, and gives the
last state without its gradient. Both are had by N tokens more, since a token may do to the state
whatever dt, u and B say, and y reads it through C:

    before the sequence, token j writes state j:   dt = 2^-k, u = 2^k h_0[:, j], B = e_j
    after it, token j reads state j:               dt = 0, u = 0, C = e_j

A token that writes decays the others by exp(2^-k A), which is 1 in float32 while |A| < 2^(k-25);
powers of two scale without rounding. A token that reads decays and writes nothing. Values and
gradients are those of the scan itself, for N tokens more or 2 N.

B batch, T time, D width, N state.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from architectures.kernels.cuda.path import CudaPath
from architectures.kernels.paths import note
from architectures.kernels.uncompiled import left_to_python

MAX_STATE = 256  # of its kernel
WRITING_SCALE = 2.0**40  # exact for |A| < 2^15 and |h| < 2^87


def _load() -> Any:
    from mamba_ssm.ops.selective_scan_interface import selective_scan_fn

    return selective_scan_fn


# float32 against float64 over some dozen tokens; its exponential is the device's fast one.
PATH = CudaPath("selective_scan", "mamba_ssm", _load, bound=1e-5)


@left_to_python
def selective_scan(
    u: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, state: Tensor | None
) -> tuple[Tensor, Tensor]:
    """As kernels/selective_scan.py has it: y (B, T, D) and the state (B, D, N) after the last."""
    note("selective_scan", PATH.package)
    (n_rows, length, width), n_state = u.shape, A.shape[1]
    unit = torch.eye(n_state, dtype=u.dtype, device=u.device).expand(n_rows, -1, -1)  # (B, N, N)
    nothing, silence = u.new_zeros(n_rows, width, n_state), torch.zeros_like(unit)
    # The kernel's layout, time last.
    parts = [[x.mT] for x in (u, dt, B, C)]
    for part, reading in zip(parts, (nothing, nothing, silence, unit), strict=True):
        part.append(reading)
    if state is not None:
        written, brief = state * WRITING_SCALE, torch.full_like(nothing, 1 / WRITING_SCALE)
        for part, writing in zip(parts, (written, brief, unit, silence), strict=True):
            part.insert(0, writing)
    sequences = [torch.cat(part, dim=2) for part in parts]  # two of (B, D, L), two of (B, N, L)
    u, dt, B, C = sequences
    with torch.autocast(u.device.type, enabled=False):
        y: Tensor = _load()(u, dt, A.contiguous(), B, C, D)  # (B, D, L)
    y = y[:, :, 0 if state is None else n_state :]
    return y[:, :, :length].mT, y[:, :, length:]
