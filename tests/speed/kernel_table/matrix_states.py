"""Recurrences of matrix states in chunks, which are plain PyTorch: RWKV-7's rule and Mamba-2's."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn.functional import normalize

from architectures.kernels.delta_rule import general_delta_rule
from architectures.kernels.ssd import ssd, ssd_flops_per_token
from tests.speed.kernel_table.comparison import (
    BATCH,
    STATE,
    WIDTH,
    Comparison,
    normal,
    uniform,
)
from tests.speed.kernel_table.scans import mambapy_scan, selective_inputs

LENGTH, HEADS = 2048, 4
HEAD_WIDTH = WIDTH // HEADS


def comparisons(device: torch.device) -> Iterator[Comparison]:
    """The delta rule against a loop, the duality against Mamba-1's scan in PyTorch."""
    tokens = BATCH * LENGTH
    yield Comparison(
        name=f"rwkv7 delta rule T={LENGTH}",
        native=lambda *x: general_delta_rule(*x)[0],
        peer_name="loop over time",
        peer=delta_rule_loop,
        inputs=delta_rule_inputs(device),
        bound=4.0,
        # Of the recurrence, for each element of S: 2 to find, 5 to write, 2 to read.
        flops=3 * tokens * HEADS * 9.0 * HEAD_WIDTH**2,
    )
    read, heads = (BATCH, LENGTH, 1, STATE), (BATCH, LENGTH, HEADS)
    yield Comparison(
        name=f"mamba-2 ssd T={LENGTH}",
        native=lambda *x: ssd(*x)[0],
        peer_name="mambapy pscan",
        peer=mambapy_scan,
        inputs=[
            normal(*read, device=device),
            normal(*read, device=device),
            normal(*heads, HEAD_WIDTH, device=device),
            uniform(*heads, device=device, scale=-1.0),
        ],
        peer_inputs=selective_inputs(LENGTH, device),
        bound=3.0,
        same=False,  # another model with as many channels and states
        flops=3 * tokens * ssd_flops_per_token(LENGTH, STATE, HEAD_WIDTH, HEADS, heads_of_keys=1),
    )


def delta_rule_inputs(device: torch.device) -> list[Tensor]:
    """q, k, v, a, b and log_decay (B, T, H, N) as RWKV-7 makes them."""
    shape = BATCH, LENGTH, HEADS, HEAD_WIDTH
    q, k, v, erased = (torch.randn(shape, device=device) for _ in range(4))
    erased = normalize(erased, dim=3)
    rate = torch.rand(shape, device=device)
    log_decay = -0.6 * torch.rand(shape, device=device)
    return [x.requires_grad_() for x in (q, k, v, -erased, rate * erased, log_decay)]


def delta_rule_loop(
    q: Tensor, k: Tensor, v: Tensor, a: Tensor, b: Tensor, log_decay: Tensor
) -> Tensor:
    """y (B, T, H, P), token by token: equations in kernels/delta_rule.py."""
    state = v.new_zeros(*v[:, 0].shape[:2], k.shape[3], v.shape[3])  # (B, H, N, P)
    outputs = []
    decay = log_decay.exp()
    # Not x[:, t], whose gradient is as large as x for every token.
    for q_t, k_t, v_t, a_t, b_t, kept in zip(
        *(x.unsqueeze(4).unbind(1) for x in (q, k, v, a, b, decay)), strict=True
    ):
        found = a_t.transpose(2, 3) @ state  # (B, H, 1, P)
        state = kept * state + b_t * found + k_t * v_t.transpose(2, 3)
        outputs.append((q_t.transpose(2, 3) @ state).squeeze(2))
    return torch.stack(outputs, dim=1)
