"""Delta rules: what a key held before is erased as the new value is written.

The gated rule, with one decay for each head and token: Yang et al. 2024,
https://arxiv.org/abs/2412.06464, equation 10, S being its transpose here:

    S_t = a_t (I - b_t k_t k_t^T) S_{t-1} + b_t k_t v_t^T        y_t = q_t S_t

The general rule, with a decay for each channel: Peng et al. 2025, https://arxiv.org/abs/2503.14456,
section 4, also as its transpose:

    S_t = diag(w_t) S_{t-1} + b_t (a_t^T S_{t-1}) + k_t v_t^T    y_t = q_t S_t

In plain PyTorch a chunk's K erasures are one triangular system (the WY form, section 3.3 of the
first paper), so that between chunks there is 1 step for K tokens. In C for the CPU there is one for
each token, on a state that does not leave the processor's cache.

B batch, T time, H heads, N key width, P value width, K tokens of a chunk, C chunks.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.linalg import solve_triangular

from architectures.kernels.native import delta_rule as native
from architectures.kernels.native.library import gradients, relative_error
from architectures.kernels.paths import REFERENCE, note
from architectures.kernels.ssd import chunked, joined, pairwise_decay

CHUNK_TOKENS = 32
MIN_LOG_DECAY = -2.0
"""The general rule divides by a chunk's decays, at most e^(2 K): within the range of float32."""


def gated_delta_rule(
    q: Tensor, k: Tensor, v: Tensor, beta: Tensor, log_decay: Tensor, state: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Scan q and k (B, T, H, N) and v (B, T, H, P) with beta and log_decay (B, T, H).

    `state` (B, H, N, P) is that before the first token, zeros if None. Returns y (B, T, H, P) and
    the state after the last token. A token with beta = 0 and log_decay = 0 leaves the state.
    """
    if state is None:
        state = v.new_zeros(v.shape[0], *q.shape[2:], v.shape[3])
    inputs = q, k, v, beta, log_decay, state
    if native.KERNEL.takes_bfloat16(*inputs):
        y, final_state = gated_delta_rule(*(tensor.float() for tensor in inputs))
        return y.to(v.dtype), final_state.to(v.dtype)
    if native.KERNEL.takes(*inputs):
        differentiates = torch.is_grad_enabled() and any(x.requires_grad for x in inputs)
        y, final_state, _ = native.SCAN(q, k, v, None, beta, log_decay, state, differentiates)
        return y, final_state
    note("gated_delta_rule", REFERENCE)
    return gated_delta_rule_reference(*inputs)


def general_delta_rule(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    a: Tensor,
    b: Tensor,
    log_decay: Tensor,
    state: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Scan q, k, a, b and log_decay (B, T, H, N), at least MIN_LOG_DECAY, and v (B, T, H, P).

    `state` (B, H, N, P) is that before the first token, zeros if None. Returns y (B, T, H, P) and
    the state after the last token. A token with k = b = log_decay = 0 leaves the state.
    """
    if state is None:
        state = v.new_zeros(v.shape[0], *q.shape[2:], v.shape[3])
    inputs = q, k, v, a, b, log_decay, state
    if native.KERNEL.takes_bfloat16(*inputs):
        y, final_state = general_delta_rule(*(tensor.float() for tensor in inputs))
        return y.to(v.dtype), final_state.to(v.dtype)
    if native.KERNEL.takes(*inputs):
        differentiates = torch.is_grad_enabled() and any(x.requires_grad for x in inputs)
        y, final_state, _ = native.SCAN(*inputs, differentiates)
        return y, final_state
    note("general_delta_rule", REFERENCE)
    return general_delta_rule_reference(*inputs)


def gated_delta_rule_reference(
    q: Tensor, k: Tensor, v: Tensor, beta: Tensor, log_decay: Tensor, state: Tensor
) -> tuple[Tensor, Tensor]:
    """The same in plain PyTorch, for any device and dtype."""
    # A state adds up all of T: the products stay in the dtype of the operands.
    with torch.autocast(v.device.type, enabled=False):
        return _gated_delta_rule(q, k, v, beta, log_decay, state)


def general_delta_rule_reference(
    q: Tensor, k: Tensor, v: Tensor, a: Tensor, b: Tensor, log_decay: Tensor, state: Tensor
) -> tuple[Tensor, Tensor]:
    """The same in plain PyTorch, for any device and dtype."""
    with torch.autocast(v.device.type, enabled=False):
        return _general_delta_rule(q, k, v, a, b, log_decay, state)


def gated_delta_rule_flops_per_token(
    length: int, key_width: int, value_width: int, heads: int
) -> float:
    """Two squares of scores and one product with values of a chunk, and 3 with the state."""
    chunk = min(CHUNK_TOKENS, length)
    in_chunk = chunk * (2 * 2.0 * key_width + 2.0 * value_width)
    with_state = 3 * 2.0 * key_width * value_width
    return heads * (in_chunk + with_state + solve_flops_per_token(length, key_width, value_width))


def general_delta_rule_flops_per_token(
    length: int, key_width: int, value_width: int, heads: int
) -> float:
    """Four squares of scores and three products with values of a chunk, and 4 with the state.

    Besides, what a chunk does to a state as a whole: made, N^2 per token, and applied once.
    """
    chunk = min(CHUNK_TOKENS, length)
    in_chunk = chunk * (4 * 2.0 * key_width + 3 * 2.0 * value_width)
    with_state = 4 * 2.0 * key_width * value_width
    whole_chunk = 2.0 * key_width**2 * (1 + value_width / chunk)
    solve = solve_flops_per_token(length, key_width, value_width)
    return heads * (in_chunk + with_state + whole_chunk + solve)


def solve_flops_per_token(length: int, key_width: int, value_width: int) -> float:
    """Of one head: a triangle of K (K - 1) / 2 times N + P columns, for K tokens."""
    return float((min(CHUNK_TOKENS, length) - 1) * (key_width + value_width))


def _gated_delta_rule(
    q: Tensor, k: Tensor, v: Tensor, beta: Tensor, log_decay: Tensor, state: Tensor
) -> tuple[Tensor, Tensor]:
    """`gated_delta_rule_reference` outside of autocast."""
    length = v.shape[1]
    if length == 0:
        return v.clone(), state
    n_tokens = min(CHUNK_TOKENS, length)
    q, k, v = (chunked(x, n_tokens) for x in (q, k, v))  # (B, H, C, K, N or P)
    beta = chunked(beta.unsqueeze(3), n_tokens)  # (B, H, C, K, 1)
    since_start = chunked(log_decay.unsqueeze(3), n_tokens).squeeze(4).cumsum(3)  # (B, H, C, K)
    pairwise = pairwise_decay(since_start)  # (B, H, C, K, K)
    decayed = since_start.exp().unsqueeze(4)  # (B, H, C, K, 1)
    # What a token writes, u = beta (v - decayed k S), depends on what those before it wrote. The
    # diagonal of the system, taken as 1, is not read.
    system = (beta * k) @ k.transpose(-1, -2) * pairwise
    right = torch.cat([beta * v, beta * k * decayed], dim=4)  # (B, H, C, K, P + N)
    solved = solve_triangular(system, right, upper=False, unitriangular=True)
    values, erased = solved.split([v.shape[4], k.shape[4]], dim=4)
    mask = q @ k.transpose(-1, -2) * pairwise  # (B, H, C, K, K)
    to_end = (since_start[..., -1:] - since_start).exp().unsqueeze(4)  # (B, H, C, K, 1)
    keys_to_end = (k * to_end).transpose(-1, -2)  # (B, H, C, N, K)
    kept = decayed[..., -1:, :]  # (B, H, C, 1, 1)
    starts, written = [], []
    # Not by index: each chunk's gradient would be written into zeros as large as all of them.
    for own, of_state, share, keys in zip(
        *(x.unbind(2) for x in (values, erased, kept, keys_to_end)), strict=True
    ):
        starts.append(state)
        written.append(own - of_state @ state)  # (B, H, K, P)
        state = share * state + keys @ written[-1]
    read = (q * decayed) @ torch.stack(starts, dim=2)  # (B, H, C, K, P)
    return joined(read + mask @ torch.stack(written, dim=2), length), state


def _general_delta_rule(
    q: Tensor, k: Tensor, v: Tensor, a: Tensor, b: Tensor, log_decay: Tensor, state: Tensor
) -> tuple[Tensor, Tensor]:
    """`general_delta_rule_reference` outside of autocast."""
    length = v.shape[1]
    if length == 0:
        return v.clone(), state
    n_tokens = min(CHUNK_TOKENS, length)
    q, k, v, a, b, log_decay = (chunked(x, n_tokens) for x in (q, k, v, a, b, log_decay))
    v = v.contiguous()
    since_start = log_decay.cumsum(3)  # (B, H, C, K, N)
    decayed = since_start.exp()
    # Decays from s to t are those from the start to t divided by those from the start to s. Of
    # those who read, q sees a token's own writing, and a what was there before it.
    q, a = q * decayed, a * (since_start - log_decay).exp()
    undone = (-since_start).exp()
    writers = torch.cat([k * undone, b * undone], dim=3)  # (B, H, C, 2K, N)
    scores = torch.cat([q, a], dim=3) @ writers.transpose(-1, -2)  # (B, H, C, 2K, 2K)
    seen = torch.ones(n_tokens, n_tokens, dtype=torch.bool, device=v.device).tril()
    seen = torch.cat([seen, seen.tril(-1)]).repeat(1, 2)  # (2K, 2K)
    of_q, of_a = scores.masked_fill(~seen, 0.0).split(n_tokens, dim=3)  # each (B, H, C, K, 2K)
    # What a token finds, u = a S, depends on what those before it wrote: (1 - a b) u = a k v + a S.
    of_k, of_b = of_a.split(n_tokens, dim=4)  # each (B, H, C, K, K)
    right = torch.cat([of_k @ v, a], dim=4)  # (B, H, C, K, P + N)
    solved = solve_triangular(-of_b, right, upper=False, unitriangular=True)
    own, of_state = solved.split([v.shape[4], a.shape[4]], dim=4)
    # A chunk as one step: S = kept (S + b (own + of_state S) + k v).
    kept = decayed[..., -1:, :].transpose(-1, -2)  # (B, H, C, N, 1)
    new = writers.transpose(-1, -2) @ torch.cat([v, own], dim=3)  # (B, H, C, N, P)
    erasing = writers[..., n_tokens:, :].transpose(-1, -2) @ of_state  # (B, H, C, N, N)
    erasing = erasing + torch.eye(a.shape[4], dtype=v.dtype, device=v.device)
    starts = []
    # Not by index: each chunk's gradient would be written into zeros as large as all of them.
    for step, written in zip((kept * erasing).unbind(2), (kept * new).unbind(2), strict=True):
        starts.append(state)
        state = written + step @ state
    before = torch.stack(starts, dim=2)  # (B, H, C, N, P)
    found = own + of_state @ before  # (B, H, C, K, P)
    y = q @ before + of_q @ torch.cat([v, found], dim=3)
    return joined(y, length), state


def _self_check() -> float:
    """The largest error of native code, with all gradients, against the references in float64."""
    n_rows, length, heads, n_keys, n_values = 2, native.CHUNK_TOKENS + 3, 2, 5, 3
    generator = torch.Generator().manual_seed(0)
    keys, values = (n_rows, length, heads, n_keys), (n_rows, length, heads, n_values)
    of_head, state = (n_rows, length, heads), (n_rows, heads, n_keys, n_values)
    q, k, v, a, b, log_decay, beta, log_share, state_before = (
        torch.randn(*shape, generator=generator, dtype=torch.float64, device="cpu")
        for shape in (keys, keys, values, keys, keys, keys, of_head, of_head, state)
    )
    # Keys of length 1, which keep the states from growing.
    k, a = (x / x.norm(dim=3, keepdim=True) for x in (k, a))
    general = [q, k, v, -a, a * b.sigmoid(), -log_decay.sigmoid(), state_before]
    gated = [q, k, v, beta.sigmoid(), -log_share.exp(), state_before]
    found = [
        *gradients(lambda *x: native.SCAN(*x, True)[:2], [x.float() for x in general]),
        *gradients(
            lambda q, k, v, *others: native.SCAN(q, k, v, None, *others, True)[:2],
            [x.float() for x in gated],
        ),
    ]
    exact = [
        *gradients(general_delta_rule_reference, general),
        *gradients(gated_delta_rule_reference, gated),
    ]
    return relative_error(found, exact)


native.KERNEL.check = _self_check
