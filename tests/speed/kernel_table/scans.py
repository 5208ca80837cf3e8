"""Element-wise recurrences: the selective scan, the linear scan and wkv."""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

import torch
from mambapy.pscan import pscan
from torch import Tensor
from torch.nn.functional import logsigmoid

from architectures.kernels.linear_scan import linear_scan
from architectures.kernels.selective_scan import selective_scan
from architectures.kernels.wkv4 import wkv4
from tests.speed.kernel_table.comparison import (
    BATCH,
    STATE,
    WIDTH,
    Comparison,
    normal,
    uniform,
)

OPERATIONS_PER_STATE, OPERATIONS_PER_CHANNEL = 25, 11
"""Of the selective scan: 7 N + 3 for a channel forwards; backwards 18 N + 8, the states again."""


def selective_scans(device: torch.device) -> Iterator[Comparison]:
    """At three lengths against mambapy, at one against transformers' loop."""
    for length in (512, 2048, 8192):
        inputs = selective_inputs(length, device)
        flops = BATCH * length * WIDTH * (OPERATIONS_PER_STATE * STATE + OPERATIONS_PER_CHANNEL)
        yield Comparison(
            name=f"selective_scan T={length}",
            native=lambda *x: selective_scan(*x)[0],
            peer_name="mambapy pscan",
            peer=mambapy_scan,
            inputs=inputs,
            bound=20.0,
            flops=flops,
            quick=length < 8192,
        )
        if length == 512:
            yield Comparison(
                name=f"selective_scan T={length}",
                native=lambda *x: selective_scan(*x)[0],
                peer_name="transformers' loop",
                peer=transformers_scan,
                inputs=inputs,
                bound=100.0,
                flops=flops,
                quick=False,
            )


def other_scans(device: torch.device) -> Iterator[Comparison]:
    """wkv against transformers' loop, the linear scan against one in log space."""
    sequence = BATCH, 2048, WIDTH
    yield Comparison(
        name="wkv4 T=2048",
        native=lambda w, u, k, v: wkv4(w.exp(), u, k, v)[0],
        peer_name="transformers' loop",
        peer=transformers_wkv,
        inputs=[
            normal(*shape, device=device) for shape in ((WIDTH,), (WIDTH,), sequence, sequence)
        ],
        bound=80.0,
        quick=False,
    )
    for length, bound in ((512, 80.0), (2048, 50.0)):
        sequence = BATCH, length, WIDTH
        logs = [
            logsigmoid(torch.randn(sequence, device=device)),
            torch.randn(sequence, device=device),
        ]
        yield Comparison(
            name=f"linear_scan T={length}",
            native=linear_scan,
            peer_name="scan in log space",
            peer=log_space_scan,
            inputs=[x.exp().requires_grad_() for x in logs],
            peer_inputs=[x.requires_grad_() for x in logs],
            bound=bound,
        )


def selective_inputs(length: int, device: torch.device) -> list[Tensor]:
    """u, dt, A, B, C and D."""
    sequence, read = (BATCH, length, WIDTH), (BATCH, length, STATE)
    return [
        normal(*sequence, device=device),
        uniform(*sequence, device=device, scale=0.1),
        uniform(WIDTH, STATE, device=device, scale=-STATE),
        normal(*read, device=device),
        normal(*read, device=device),
        normal(WIDTH, device=device),
    ]


def mambapy_scan(u: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor) -> Tensor:
    """As mambapy's MambaBlock calls its parallel scan."""
    decay = (dt.unsqueeze(3) * A).exp()  # (B, T, D, N)
    states = cast(Tensor, pscan(decay, dt.unsqueeze(3) * B.unsqueeze(2) * u.unsqueeze(3)))
    return (states @ C.unsqueeze(3)).squeeze(3) + D * u


def transformers_scan(u: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor) -> Tensor:
    """What its MambaMixer takes without mamba_ssm: a loop over time, channels before time."""
    from transformers.models.mamba.modeling_mamba import mamba_selective_scan  # takes seconds

    u, dt, B, C = (x.transpose(1, 2) for x in (u, dt, B, C))
    return cast(Tensor, mamba_selective_scan(u, dt, A, B, C, D)).transpose(1, 2)


def transformers_wkv(w: Tensor, u: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """What its RwkvSelfAttention takes on a CPU."""
    from transformers.models.rwkv.modeling_rwkv import rwkv_linear_attention_cpu  # takes seconds

    return cast(Tensor, rwkv_linear_attention_cpu(w, u, k, v)[0])  # type: ignore[no-untyped-call]


def log_space_scan(log_decay: Tensor, log_written: Tensor) -> Tensor:
    """h_t = a_t h_{t-1} + b_t of positive numbers: Heinsen 2023, https://arxiv.org/abs/2311.06281."""
    fallen = log_decay.cumsum(1)
    return (fallen + (log_written - fallen).logcumsumexp(1)).exp()
