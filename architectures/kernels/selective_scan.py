"""Selective scan, in plain PyTorch, in C for the CPU, by mamba_ssm on CUDA: Gu and Dao 2023,
https://arxiv.org/abs/2312.00752, section 3.2.

    h_t = exp(dt_t A) h_{t-1} + dt_t B_t u_t        (equation 2a; B by the Euler rule)
    y_t = C_t h_t + D u_t

Sequential over T, all else at once. Autograd would keep (B, T, D, N) several times over; here only
the state at the start of each chunk is kept, and the backward pass computes a chunk's states again
before it walks back through it (the paper's section 3.3.2).

B batch, T time, D width, N state, K tokens of a chunk. Inside, time comes first: (K, B, D, N).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from architectures.kernels.cuda import selective_scan as cuda
from architectures.kernels.native import selective_scan as native
from architectures.kernels.native.library import gradients, relative_error
from architectures.kernels.paths import REFERENCE, note
from architectures.kernels.uncompiled import left_to_python

CHUNK_TOKENS = native.CHUNK_TOKENS
CPU = torch.device("cpu")


def selective_scan(
    u: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, state: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Scan u and dt (B, T, D), with A (D, N), B and C (B, T, N) and D (D,).

    `state` (B, D, N) is that before the first token, zeros if None. Returns y (B, T, D) and the
    state after the last token. A token with dt = 0 and u = 0 leaves the state as it is.
    """
    given = state
    if state is None:
        state = u.new_zeros(u.shape[0], *A.shape)
    inputs = u, dt, A, B, C, D, state
    if native.KERNEL.takes_bfloat16(*inputs) or cuda.PATH.takes_bfloat16(*inputs):
        y, final_state = selective_scan(*(tensor.float() for tensor in inputs))
        return y.to(u.dtype), final_state.to(u.dtype)
    if native.KERNEL.takes(*inputs):
        differentiates = torch.is_grad_enabled() and any(x.requires_grad for x in inputs)
        y, final_state, _ = native.SCAN(*inputs, differentiates)
        return y, final_state
    if A.shape[1] <= cuda.MAX_STATE and cuda.PATH.takes(*inputs):
        return cuda.selective_scan(u, dt, A, B, C, D, given)
    note("selective_scan", REFERENCE)
    return selective_scan_reference(*inputs)


@left_to_python
def selective_scan_reference(
    u: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, state: Tensor
) -> tuple[Tensor, Tensor]:
    """The same in plain PyTorch, for any device and dtype."""
    y, final_state = _SelectiveScan.apply(u, dt, A, B, C, state)  # type: ignore[no-untyped-call]
    return torch.addcmul(y, u, D), final_state


def selective_scan_step(
    u: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, state: Tensor
) -> tuple[Tensor, Tensor]:
    """One token: u and dt (B, D), B and C (B, N). Returns y (B, D) and the new state (B, D, N)."""
    decay = (dt.unsqueeze(2) * A).exp()  # (B, D, N)
    state = torch.addcmul(decay * state, (dt * u).unsqueeze(2), B.unsqueeze(1))
    y = (state @ C.unsqueeze(2)).squeeze(2)  # (B, D)
    return torch.addcmul(y, u, D), state


def selective_scan_flops_per_token(width: int, n_state: int) -> float:
    """Per channel and state: dt A, its exponential, times h, times B, plus, times C, plus.

    Per channel: dt u, D u and its addition.
    """
    return width * (7.0 * n_state + 3.0)


class _SelectiveScan(torch.autograd.Function):
    """The scan without D u."""

    @staticmethod
    def forward(
        ctx: Any, u: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, state: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return y (B, T, D) and the final state (B, D, N)."""
        y = torch.empty_like(u)
        starts = []
        for start in range(0, u.shape[1], CHUNK_TOKENS):
            chunk = slice(start, start + CHUNK_TOKENS)
            starts.append(state)
            _, states = _chunk_states(u[:, chunk], dt[:, chunk], A, B[:, chunk], state)
            read = states @ C[:, chunk].transpose(0, 1).unsqueeze(3)  # (K, B, D, 1)
            y[:, chunk] = read.squeeze(3).transpose(0, 1)
            # A copy, so that one chunk's memory is not held for the sake of its last state.
            state = states[-1].clone()
        ctx.save_for_backward(u, dt, A, B, C, *starts)
        return y, state

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_y: Tensor, grad_state: Tensor) -> tuple[Tensor, ...]:
        """Walk back: grad h_t = C_t grad y_t + exp(dt_{t+1} A) grad h_{t+1}."""
        u, dt, A, B, C, *starts = ctx.saved_tensors
        grad_u, grad_dt = torch.empty_like(u), torch.empty_like(dt)
        grad_B, grad_C = torch.empty_like(B), torch.empty_like(C)
        grad_A = torch.zeros_like(A)
        for index in reversed(range(len(starts))):
            chunk = slice(index * CHUNK_TOKENS, (index + 1) * CHUNK_TOKENS)
            before = starts[index]
            decay, states = _chunk_states(u[:, chunk], dt[:, chunk], A, B[:, chunk], before)
            dy = grad_y[:, chunk].transpose(0, 1)  # (K, B, D)
            dh = dy.unsqueeze(3) * C[:, chunk].transpose(0, 1).unsqueeze(2)  # (K, B, D, N)
            dh[-1] += grad_state
            for t in range(len(dh) - 2, -1, -1):
                dh[t].addcmul_(decay[t + 1], dh[t + 1])
            grad_state = decay[0] * dh[0]
            grad_C[:, chunk] = (dy.unsqueeze(2) @ states).squeeze(2).transpose(0, 1)
            # The gradient of dt A, in the place of decay: dh_t h_{t-1} exp(dt_t A).
            previous = torch.cat([before.unsqueeze(0), states[:-1]])  # (K, B, D, N)
            exponent = decay.mul_(previous).mul_(dh)
            time_first_dt = dt[:, chunk].transpose(0, 1)  # (K, B, D)
            time_first_u = u[:, chunk].transpose(0, 1)  # (K, B, D)
            time_first_B = B[:, chunk].transpose(0, 1)  # (K, B, N)
            grad_A += torch.einsum("kbdn,kbd->dn", exponent, time_first_dt)
            # The gradient of dt u, which B multiplies.
            written = (dh @ time_first_B.unsqueeze(3)).squeeze(3)  # (K, B, D)
            grad_u[:, chunk] = (written * time_first_dt).transpose(0, 1)
            decayed = torch.einsum("kbdn,dn->kbd", exponent, A)
            grad_dt[:, chunk] = (written * time_first_u + decayed).transpose(0, 1)
            input_weight = (time_first_dt * time_first_u).unsqueeze(2)  # (K, B, 1, D)
            grad_B[:, chunk] = (input_weight @ dh).squeeze(2).transpose(0, 1)
        return grad_u, grad_dt, grad_A, grad_B, grad_C, grad_state


def _chunk_states(
    u: Tensor, dt: Tensor, A: Tensor, B: Tensor, state: Tensor
) -> tuple[Tensor, Tensor]:
    """exp(dt A) and the states of the K tokens after `state` (B, D, N): both (K, B, D, N)."""
    time_first_dt = dt.transpose(0, 1)  # (K, B, D)
    decay = (time_first_dt.unsqueeze(3) * A).exp_()  # (K, B, D, N)
    written = time_first_dt * u.transpose(0, 1)  # (K, B, D)
    states = written.unsqueeze(3) * B.transpose(0, 1).unsqueeze(2)  # (K, B, D, N)
    states[0].addcmul_(decay[0], state)
    for t in range(1, len(states)):
        states[t].addcmul_(decay[t], states[t - 1])
    return decay, states


def _self_check(
    device: torch.device = CPU,
    scan: Callable[..., Sequence[Tensor]] = lambda *x: native.SCAN(*x, True)[:2],
) -> float:
    """The largest error of fast code, with all gradients, against the reference in float64."""
    n_rows, length, width, n_state = 2, CHUNK_TOKENS + 3, 5, 3
    generator = torch.Generator().manual_seed(0)
    sequence, read = (n_rows, length, width), (n_rows, length, n_state)
    rates = (width, n_state)
    shapes = sequence, sequence, rates, read, read, (width,), (n_rows, *rates)
    u, dt, A, *others = (
        torch.randn(*shape, generator=generator, dtype=torch.float64, device="cpu")
        for shape in shapes
    )
    inputs = [u, dt.sigmoid(), -A.exp(), *others]
    found = gradients(scan, [x.to(device, torch.float32) for x in inputs])
    return relative_error(found, gradients(selective_scan_reference, inputs))


native.KERNEL.check = _self_check
cuda.PATH.check = lambda device: _self_check(device, cuda.selective_scan)
