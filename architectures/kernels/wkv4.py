"""The wkv of RWKV-4, in plain PyTorch, in C, and in Triton for CUDA: Peng et al. 2023,
https://arxiv.org/abs/2305.13048, equation 16.

    y_t = (a_{t-1} + e^(u + k_t) v_t) / (b_{t-1} + e^(u + k_t))
    a_t = e^-w a_{t-1} + e^k_t v_t        b_t = e^-w b_{t-1} + e^k_t

No exponential overflows, since a and b are kept divided by e^p, p being a running maximum (the
paper's appendix on numerical stability):

    p_t = max(p_{t-1} - w, k_t)        (kernels/running_maximum.py)

In plain PyTorch, with p known for all tokens, a and b are linear recurrences with decays
e^(p_{t-1} - w - p_t), at most 1, for kernels/linear_scan.py.

B batch, T time, E width.
"""

from __future__ import annotations

from typing import TypeAlias

import torch
from torch import Tensor

from architectures.kernels.cuda import wkv4 as cuda
from architectures.kernels.linear_scan import CPU, last_state, linear_scan
from architectures.kernels.native import wkv4 as native
from architectures.kernels.native.library import gradients, relative_error
from architectures.kernels.paths import REFERENCE, note
from architectures.kernels.running_maximum import running_maximum

WkvState: TypeAlias = tuple[Tensor, Tensor, Tensor]
"""a e^-p, b e^-p and p, (B, E) each."""


def wkv4(
    w: Tensor,
    u: Tensor,
    k: Tensor,
    v: Tensor,
    state: WkvState | None = None,
    lengths: Tensor | None = None,
) -> tuple[Tensor, WkvState]:
    """Scan k and v (B, T, E) with the rate of decay w (E,) > 0 and the bonus u (E,).

    `state` is that before the first token. Returns y (B, T, E) and the state after the last token,
    or after `lengths` (B,) tokens if it is given.
    """
    if state is None:
        nothing = k.new_zeros(k.shape[0], k.shape[2])
        state = nothing, nothing, nothing - torch.inf
    inputs = w, u, k, v, *state
    if native.KERNEL.takes_bfloat16(*inputs) or cuda.PATH.takes_bfloat16(*inputs):
        w, u, k, v, *state_parts = (tensor.float() for tensor in inputs)
        y, final = wkv4(w, u, k, v, (state_parts[0], state_parts[1], state_parts[2]), lengths)
        return y.bfloat16(), (final[0].bfloat16(), final[1].bfloat16(), final[2].bfloat16())
    if native.KERNEL.takes(*inputs) or cuda.PATH.takes(*inputs):
        differentiates = torch.is_grad_enabled() and any(x.requires_grad for x in inputs)
        y, a, b, p, _ = native.SCAN(*inputs, lengths, differentiates)
        return y, (a, b, p)
    note("wkv4", REFERENCE)
    return wkv4_reference(w, u, k, v, state, lengths)


def wkv4_reference(
    w: Tensor, u: Tensor, k: Tensor, v: Tensor, state: WkvState, lengths: Tensor | None
) -> tuple[Tensor, WkvState]:
    """The same in plain PyTorch, for any device and dtype."""
    a, b, p = state
    maximum = running_maximum(-w.expand(1, *k.shape[1:]), k, p)  # (B, T, E)
    before = torch.cat([p.unsqueeze(1), maximum[:, :-1]], dim=1)
    decay, weight = (before - w - maximum).exp(), (k - maximum).exp()
    numerators = linear_scan(decay, weight * v, a)  # (B, T, E)
    denominators = linear_scan(decay, weight, b)  # (B, T, E)
    top = torch.maximum(before, u + k)
    of_past, of_token = (before - top).exp(), (u + k - top).exp()
    numerators_before = torch.cat([a.unsqueeze(1), numerators[:, :-1]], dim=1)
    denominators_before = torch.cat([b.unsqueeze(1), denominators[:, :-1]], dim=1)
    y = (of_past * numerators_before + of_token * v) / (of_past * denominators_before + of_token)
    final = (
        last_state(numerators, lengths),
        last_state(denominators, lengths),
        last_state(maximum, lengths),
    )
    return y, final


def wkv4_flops_per_token(width: int) -> float:
    """Four exponentials, two recurrences (4), e^k v (1), and numerator, denominator, ratio (6)."""
    return 15.0 * width


def _self_check(device: torch.device = CPU) -> float:
    """The largest error of fast code, with all gradients, against the reference in float64."""
    n_rows, length, width = 2, native.CHUNK_TOKENS + 3, 5
    generator = torch.Generator().manual_seed(0)
    sequence, state = (n_rows, length, width), (n_rows, width)
    shapes = (width,), (width,), sequence, sequence, state, state, state
    w, u, k, v, a, b, p = (
        torch.randn(*shape, generator=generator, dtype=torch.float64, device="cpu")
        for shape in shapes
    )
    inputs = [w.exp(), u, k, v, a, b.exp(), p]
    lengths = torch.tensor([length, 20], device="cpu")

    def reference(*x: Tensor) -> list[Tensor]:
        w, u, k, v, *state = x
        y, final = wkv4_reference(w, u, k, v, (state[0], state[1], state[2]), lengths)
        return [y, *final]

    found = gradients(
        lambda *x: native.SCAN(*x, lengths.to(device), True)[:4],
        [x.to(device, torch.float32) for x in inputs],
    )
    return relative_error(found, gradients(reference, inputs))


native.KERNEL.check = _self_check
cuda.PATH.check = _self_check
