"""Scans of matrix states as loops written from the papers, and inputs for them."""

import torch
from torch import Tensor

from architectures.kernels.ssd import CHUNK_TOKENS
from tests.agreement import normal

LENGTHS = [1, 2, CHUNK_TOKENS - 1, CHUNK_TOKENS, CHUNK_TOKENS + 1, 2 * CHUNK_TOKENS + 5]


def ssd_by_loop(
    q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor, state: Tensor
) -> tuple[Tensor, Tensor]:
    outputs = []
    for t in range(v.shape[1]):
        written = k[:, t, :, :, None] * v[:, t, :, None, :]
        state = log_decay[:, t, :, None, None].exp() * state + written
        outputs.append((q[:, t, :, :, None] * state).sum(2))
    return torch.stack(outputs, dim=1), state


def gated_delta_by_loop(
    q: Tensor, k: Tensor, v: Tensor, beta: Tensor, log_decay: Tensor, state: Tensor
) -> tuple[Tensor, Tensor]:
    outputs = []
    for t in range(v.shape[1]):
        strength = beta[:, t, :, None, None]
        key_square = k[:, t, :, :, None] * k[:, t, :, None, :]
        kept = torch.eye(k.shape[3], dtype=k.dtype) - strength * key_square
        written = strength * k[:, t, :, :, None] * v[:, t, :, None, :]
        state = log_decay[:, t, :, None, None].exp() * (kept @ state) + written
        outputs.append((q[:, t, :, :, None] * state).sum(2))
    return torch.stack(outputs, dim=1), state


def general_delta_by_loop(
    q: Tensor, k: Tensor, v: Tensor, a: Tensor, b: Tensor, log_decay: Tensor, state: Tensor
) -> tuple[Tensor, Tensor]:
    outputs = []
    for t in range(v.shape[1]):
        kept = torch.diag_embed(log_decay[:, t].exp()) + b[:, t, :, :, None] * a[:, t, :, None, :]
        state = kept @ state + k[:, t, :, :, None] * v[:, t, :, None, :]
        outputs.append((q[:, t, :, :, None] * state).sum(2))
    return torch.stack(outputs, dim=1), state


def ssd_inputs(length: int, groups: int = 3, size: int = 4) -> list[Tensor]:
    """Decays reach from nearly 1 to e^-30."""
    inputs = [
        normal(2, length, groups, size, seed=1),
        normal(2, length, groups, size, seed=2),
        normal(2, length, 3, size + 1, seed=3),
        -(2 * normal(2, length, 3, seed=4)).exp(),
        normal(2, 3, size, size + 1, seed=5),
    ]
    return [tensor.requires_grad_() for tensor in inputs]


def gated_delta_inputs(length: int, size: int = 4) -> list[Tensor]:
    q, k, v, log_decay, state = (x.detach() for x in ssd_inputs(length, size=size))
    beta = normal(2, length, 3, seed=6).sigmoid()
    inputs = [q, k / k.norm(dim=3, keepdim=True), v, beta, log_decay, state]
    return [tensor.requires_grad_() for tensor in inputs]


def general_delta_inputs(length: int, size: int = 4) -> list[Tensor]:
    """Decays as small as RWKV-7 has them, exp(-exp(-1/2))."""
    q, k, v, _, state = (x.detach() for x in ssd_inputs(length, size=size))
    erased = normal(2, length, 3, size, seed=6)
    erased = erased / erased.norm(dim=3, keepdim=True)
    rate = normal(2, length, 3, size, seed=7).sigmoid()
    log_decay = -0.607 * (2 * normal(2, length, 3, size, seed=8)).sigmoid()
    inputs = [q, k, v, -erased, erased * rate, log_decay, state]
    return [tensor.requires_grad_() for tensor in inputs]
