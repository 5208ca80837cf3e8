"""The wkv of RWKV-4 in Triton (jit/wkv4.py) as the CUDA code of `seqbench::wkv4`.

The operation's shapes, derivative and FLOPs are those of the code in C (kernels/native/wkv4.py);
what it keeps for the walk back is the state before each token, (B, T, 3, E).

B batch, T time, E width.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from architectures.kernels.cuda.path import CudaPath
from architectures.kernels.native.library import implement, plain
from architectures.kernels.native.wkv4 import states_shape
from architectures.kernels.paths import note

BLOCK = 32  # channels of a program: one warp, so that few rows still make many programs
WARP = {"BLOCK": BLOCK, "num_warps": 1}


def _load() -> Any:
    from architectures.kernels.cuda.jit import wkv4

    return wkv4


# float32 against float64 over some dozen tokens.
PATH = CudaPath("wkv4", "triton", _load, bound=1e-5)


def _forward(
    w: Tensor,
    u: Tensor,
    k: Tensor,
    v: Tensor,
    a: Tensor,
    b: Tensor,
    p: Tensor,
    lengths: Tensor | None,
    keep_states: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Return y (B, T, E), the state's three (B, E), and the states before each token."""
    note("wkv4", PATH.package)
    w, u, k, v, a, b, p = map(plain, (w, u, k, v, a, b, p))
    y, ends = torch.empty_like(k), [x.clone() for x in (a, b, p)]
    states = k.new_empty(states_shape(k) if keep_states else (0,))
    if k.numel():
        with torch.cuda.device_of(k):  # Triton launches on the current device
            _load().forward[_grid(k)](
                *(w, u, k, v, a, b, p, k if lengths is None else lengths.contiguous()),
                *(y, *ends, states, *k.shape[1:]),
                HAS_LENGTHS=lengths is not None,
                KEEP=keep_states,
                **WARP,
            )
    return y, ends[0], ends[1], ends[2], states


def _backward(
    w: Tensor,
    u: Tensor,
    k: Tensor,
    v: Tensor,
    lengths: Tensor | None,
    states: Tensor,
    grad_y: Tensor,
    grad_a: Tensor,
    grad_b: Tensor,
    grad_p: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Return the gradients of w, u, k, v and of the state's three."""
    w, u, k, v, states = map(plain, (w, u, k, v, states))
    grads = list(map(plain, (grad_y, grad_a, grad_b, grad_p)))
    grad_k, grad_v = torch.empty_like(k), torch.empty_like(v)
    by_row = [k.new_zeros(k.shape[0], k.shape[2]) for _ in range(5)]
    grad_w, grad_u, *of_state = by_row
    if k.numel():
        with torch.cuda.device_of(k):
            _load().backward[_grid(k)](
                *(w, u, k, v, k if lengths is None else lengths.contiguous(), states, *grads),
                *(grad_w, grad_u, grad_k, grad_v, *of_state, *k.shape[1:]),
                HAS_LENGTHS=lengths is not None,
                **WARP,
            )
    return grad_w.sum(0), grad_u.sum(0), grad_k, grad_v, of_state[0], of_state[1], of_state[2]


def _grid(k: Tensor) -> tuple[int, int]:
    return k.shape[0], -(-k.shape[2] // BLOCK)


implement("wkv4", _forward, "CUDA")
implement("wkv4_backward", _backward, "CUDA")
