"""Linear attention with a scalar decay for each head and token, in chunks of matrix products.

Structured state space duality: Dao and Gu 2024, https://arxiv.org/abs/2405.21060, sections 5, 6.

    S_t = a_t S_{t-1} + k_t v_t^T        (a = exp(log_decay), at most 1)
    y_t = q_t S_t

Inside a chunk this is attention under a mask of decays, between chunks it is the
recurrence on states: 1 step for K tokens. Decays are differences of sums of logarithms, so none of
them overflows or is divided by.

B batch, T time, H heads, G heads of q and k (H, or 1 for all), N state, P width of a head, K tokens
of a chunk, C chunks.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import pad

from architectures.kernels.cuda import ssd as cuda
from architectures.kernels.native.library import gradients, relative_error
from architectures.kernels.paths import note_chunked

CHUNK_TOKENS = 32


def ssd(
    q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor | None = None, state: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Scan q and k (B, T, G, N) and v (B, T, H, P) with log_decay (B, T, H), 0 if None.

    `state` (B, H, N, P) is that before the first token, zeros if None. Returns y (B, T, H, P) and
    the state after the last token. A token with k = 0 and log_decay = 0 leaves the state as it is.
    """
    note_chunked("ssd", v)
    # A state adds up all of T: the products stay in the dtype of the operands.
    with torch.autocast(v.device.type, enabled=False):
        return _ssd(q, k, v, log_decay, state)


def selective_ssd(
    u: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, state: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """The scan of Mamba-2: k = B, q = C, v = dt u and log_decay = A dt, and D u added to y.

    Scans u (B, T, H, P) and dt (B, T, H), with A and D (H,) and B and C (B, T, N). `state`
    (B, H, N, P) is that before the first token, zeros if None. Returns y (B, T, H, P) and the state
    after the last token. A token with dt = 0 leaves the state as it is.
    """
    inputs = (u, dt, A, B, C, D) if state is None else (u, dt, A, B, C, D, state)
    if cuda.takes(*inputs):
        return cuda.selective_ssd(u, dt, A, B, C, D, state)
    y, state = ssd(C.unsqueeze(2), B.unsqueeze(2), dt.unsqueeze(3) * u, A * dt, state)
    return torch.addcmul(y, u, D.unsqueeze(1)), state


def ssd_flops_per_token(
    length: int, n_state: int, head_width: int, heads: int, *, heads_of_keys: int | None = None
) -> float:
    """Scores and their product with v, of a chunk; what the state gives and what it takes."""
    chunk = min(CHUNK_TOKENS, length)
    scores = 2.0 * chunk * n_state * (heads_of_keys or heads)
    return scores + heads * (2.0 * chunk * head_width + 4.0 * n_state * head_width)


def _ssd(
    q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor | None, state: Tensor | None
) -> tuple[Tensor, Tensor]:
    """`ssd` outside of autocast."""
    n_rows, length, heads, head_width = v.shape
    n_tokens = min(CHUNK_TOKENS, length)
    if state is None:
        state = v.new_zeros(n_rows, heads, q.shape[-1], head_width)
    if length == 0:
        return v.clone(), state
    if length == 1:
        return _one_token(q, k, v, log_decay, state)
    if log_decay is None:
        log_decay = v.new_zeros(1, length, 1)
    q, k, v = (chunked(x, n_tokens) for x in (q, k, v))
    since_start = chunked(log_decay.unsqueeze(3), n_tokens).squeeze(4).cumsum(3)  # (B, H, C, K)
    whole = since_start[..., -1:]  # (B, H, C, 1)
    mask = (q @ k.transpose(-1, -2)) * pairwise_decay(since_start)  # (B, H, C, K, K)
    to_end = (whole - since_start).exp().unsqueeze(4)  # (B, H, C, K, 1)
    written = k.transpose(-1, -2) @ (v * to_end)  # (B, H, C, N, P)
    starts = []
    for written_by_chunk, kept in zip(
        written.unbind(2), whole.exp().unsqueeze(4).unbind(2), strict=True
    ):
        starts.append(state)
        state = torch.addcmul(written_by_chunk, kept, state)  # (B, H, N, P)
    read = (q @ torch.stack(starts, dim=2)) * since_start.exp().unsqueeze(4)  # (B, H, C, K, P)
    return joined(mask @ v + read, length), state


def _one_token(
    q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor | None, state: Tensor
) -> tuple[Tensor, Tensor]:
    """The recurrence itself: for one token chunks are all overhead."""
    if log_decay is not None:
        state = state * log_decay.squeeze(1).exp()[:, :, None, None]
    state = state + k.squeeze(1).unsqueeze(3) * v.squeeze(1).unsqueeze(2)  # (B, H, N, P)
    y = q.squeeze(1).unsqueeze(2) @ state  # (B, H, 1, P)
    return y.transpose(1, 2), state  # (B, 1, H, P)


def chunked(x: Tensor, n_tokens: int) -> Tensor:
    """Cut x (B, T, H, P) into chunks, the last filled with zeros: (B, H, C, K, P)."""
    n_padding = -x.shape[1] % n_tokens
    if n_padding:
        x = pad(x, (0, 0, 0, 0, 0, n_padding))
    cut: Tensor = x.unflatten(1, (-1, n_tokens))
    return cut.permute(0, 3, 1, 2, 4)


def joined(x: Tensor, length: int) -> Tensor:
    """Undo `chunked`: (B, H, C, K, P) to (B, T, H, P)."""
    return x.permute(0, 2, 3, 1, 4).flatten(1, 2)[:, :length]


def pairwise_decay(since_start: Tensor) -> Tensor:
    """exp(sum of log decays after s up to t) for s <= t, else 0: (..., K) to (..., K, K)."""
    n_tokens = since_start.shape[-1]
    later = torch.ones(n_tokens, n_tokens, dtype=torch.bool, device=since_start.device).triu(1)
    difference = since_start.unsqueeze(-1) - since_start.unsqueeze(-2)
    return difference.masked_fill(later, -torch.inf).exp()


def _self_check(device: torch.device) -> float:
    """The largest error of fast code, with all gradients, against the reference in float64."""
    n_rows, length, heads, head_width, n_state = 2, 35, 3, 8, 16
    generator = torch.Generator().manual_seed(0)
    read = (n_rows, length, n_state)
    shapes = (
        *((n_rows, length, heads, head_width), (n_rows, length, heads), (heads,), read, read),
        *((heads,), (n_rows, heads, n_state, head_width)),
    )
    u, dt, A, *others = (
        torch.randn(*shape, generator=generator, dtype=torch.float64, device="cpu")
        for shape in shapes
    )
    inputs = [u, dt.sigmoid(), -A.exp(), *others]
    found = gradients(cuda.selective_ssd, [x.to(device, torch.float32) for x in inputs])
    return relative_error(found, gradients(selective_ssd, inputs))


cuda.PATH.check = _self_check
