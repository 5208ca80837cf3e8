"""Linear recurrence, element by element, real or complex: plain PyTorch, C, and Triton for CUDA.

    h_t = a_t h_{t-1} + b_t

Two levels: all chunks of K tokens run side by side as if each began at 0, then the state that each
chunk begins with is carried from chunk to chunk: K + T / K steps instead of T. The backward pass
is the same scan, reversed, and keeps a and h alone:

    grad b_t = grad h_t + conj(a_{t+1}) grad b_{t+1}
    grad a_t = conj(h_{t-1}) grad b_t

No logarithms, as the parallel form in log space has them: with those, errors grow with T.

B batch, T time, N state, K tokens of a chunk, P chunks.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import pad

from architectures.kernels.cuda import linear_scan as cuda
from architectures.kernels.native import linear_scan as native
from architectures.kernels.native.library import gradients, relative_error
from architectures.kernels.paths import REFERENCE, note
from architectures.kernels.uncompiled import left_to_python

CHUNK_TOKENS = 32
CPU = torch.device("cpu")


def linear_scan(a: Tensor, b: Tensor, state: Tensor | None = None) -> Tensor:
    """All states h (B, T, N) for b (B, T, N) and a of that shape or with 1 for B or T.

    `state` (B, N) is that before the first token, zeros if None. All have one dtype.
    """
    if state is None:
        state = b.new_zeros(b.shape[0], b.shape[2])
    inputs = a, b, state
    if native.KERNEL.takes_bfloat16(*inputs) or cuda.PATH.takes_bfloat16(*inputs):
        return linear_scan(a.float(), b.float(), state.float()).to(b.dtype)
    if native.KERNEL.takes(*inputs) or cuda.PATH.takes(*inputs):
        states: Tensor = native.SCAN(a, b, state)
        return states
    note("linear_scan", REFERENCE)
    return linear_scan_reference(a, b, state)


@left_to_python
def linear_scan_reference(a: Tensor, b: Tensor, state: Tensor) -> Tensor:
    """The same in plain PyTorch, for any device and dtype."""
    states: Tensor = _LinearScan.apply(a, b, state)  # type: ignore[no-untyped-call]
    return states


def last_state(states: Tensor, lengths: Tensor | None = None) -> Tensor:
    """Of states (B, T, N) the last, or that after `lengths` (B,) tokens: (B, N)."""
    if lengths is None:
        return states[:, -1].clone()  # a view would keep all of states as long as it lives
    rows = torch.arange(len(states), device=states.device)
    return states[rows, lengths.to(states.device) - 1]


def linear_scan_flops_per_token(n_state: int, *, is_complex: bool = False) -> float:
    """A multiplication and an addition for each element; of complex numbers, 6 and 2 operations."""
    return (8.0 if is_complex else 2.0) * n_state


class _LinearScan(torch.autograd.Function):
    """The scan, with the reversed scan as its backward pass."""

    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor, state: Tensor) -> Tensor:
        """Return h (B, T, N)."""
        states = _scan(a, b, state)
        ctx.save_for_backward(a, states, state)
        return states

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_states: Tensor) -> tuple[Tensor | None, Tensor, Tensor]:
        """Walk back by the scan of the reversed gradient."""
        a, states, state = ctx.saved_tensors
        if states.shape[1] == 0:
            return torch.zeros_like(a), grad_states, torch.zeros_like(state)
        conjugate = a.conj().resolve_conj()
        # The decay of the token after, and for the last token none, where it meets the zero state.
        after = conjugate.roll(-1, 1).flip(1)
        grad_b = _scan(after, grad_states.flip(1), torch.zeros_like(state)).flip(1)
        grad_state = conjugate[:, 0] * grad_b[:, 0]  # (B, N)
        if not ctx.needs_input_grad[0]:
            return None, grad_b, grad_state
        previous = torch.cat([state.unsqueeze(1), states[:, :-1]], dim=1)  # (B, T, N)
        grad_a = (previous.conj() * grad_b).sum_to_size(a.shape)
        return grad_a, grad_b, grad_state


def _scan(a: Tensor, b: Tensor, state: Tensor) -> Tensor:
    """The scan without autograd: h (B, T, N)."""
    n_rows, length, n_state = b.shape
    if b.numel() == 0:
        return b.clone()
    n_inner = min(CHUNK_TOKENS, length)
    n_chunks = -(-length // n_inner)
    n_padding = n_chunks * n_inner - length
    states = (
        pad(b, (0, 0, 0, n_padding))
        if n_padding
        else b.clone(memory_format=torch.contiguous_format)
    )
    states = states.view(n_rows, n_chunks, n_inner, n_state)  # (B, P, K, N)
    decay = _chunks(a, n_chunks, n_inner)  # (B or 1, P or 1, K, N)
    for t in range(1, n_inner):
        states[:, :, t].addcmul_(decay[:, :, t], states[:, :, t - 1])
    product = decay.cumprod(2)  # of the decays since the chunk began
    starts = [state]
    last, whole = states[:, :, -1], product[:, :, -1]
    for chunk in range(n_chunks - 1):
        whole_chunk = whole[:, min(chunk, whole.shape[1] - 1)]
        starts.append(torch.addcmul(last[:, chunk], whole_chunk, starts[-1]))
    states.addcmul_(product, torch.stack(starts, dim=1).unsqueeze(2))
    return states.view(n_rows, -1, n_state)[:, :length]


def _chunks(a: Tensor, n_chunks: int, n_inner: int) -> Tensor:
    """The decay a (B or 1, T or 1, N) in chunks: (B or 1, P or 1, K, N)."""
    if a.shape[1] == 1:
        return a.unsqueeze(1).expand(-1, 1, n_inner, -1)
    n_padding = n_chunks * n_inner - a.shape[1]
    a = pad(a, (0, 0, 0, n_padding)) if n_padding else a
    return a.reshape(a.shape[0], n_chunks, n_inner, a.shape[2])


def _self_check(device: torch.device = CPU) -> float:
    """The largest error of fast code, with all gradients, against the reference in float64."""
    errors = []
    generator = torch.Generator().manual_seed(0)
    for dtype, exact in ((torch.float32, torch.float64), (torch.complex64, torch.complex128)):
        length = 7 if device == CPU else cuda.CHUNK_TOKENS + 7  # two chunks
        for decay_shape in ((2, length, 5), (1, 1, 5)):
            shapes = decay_shape, (2, length, 5), (2, 5)
            inputs = [
                torch.randn(*shape, generator=generator, dtype=exact, device="cpu")
                for shape in shapes
            ]
            found = gradients(lambda *x: [native.SCAN(*x)], [x.to(device, dtype) for x in inputs])
            errors.append(
                relative_error(found, gradients(lambda *x: [linear_scan_reference(*x)], inputs))
            )
    return max(errors)


native.KERNEL.check = _self_check
cuda.PATH.check = _self_check
