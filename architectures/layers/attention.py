"""Multi-head attention over all tokens, those so far, or a window of them, with its cache.

Attention: Vaswani et al. 2017, https://arxiv.org/abs/1706.03762, equation 1. Grouped queries:
Ainslie et al. 2023, https://arxiv.org/abs/2305.13245. Sliding window: Beltagy et al. 2020,
https://arxiv.org/abs/2004.05150; W counts the query's own token, as in Mistral.

B batch, T time, D width, H heads, G key heads, d = D/H, P slots in the cache, S = P + T, W window.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from architectures.body import Body, State, real_positions
from architectures.layers.bidirectional import refuse_state
from architectures.layers.positions import alibi_slopes, rotary_table, rotate


class Attention(Body):
    """Multi-head attention. State: the cache of what was read.

    Without a window (keys, values, real): keys (already rotated) and values are (B, G, P, d).
    `real` (B, P) is true at the slots that hold tokens and not padding; it is None as long as no
    `lengths` were given, and then all do. With a window (keys, values, n_read): the last W - 1
    tokens, right-aligned, and the number (B,) of those read: its size is flat.
    """

    def __init__(
        self,
        width: int,
        *,
        heads: int,
        dropout: float,
        rotary_base: float | None,
        kv_heads: int | None = None,
        window: int | None = None,
        alibi: bool = False,
        causal: bool = True,
    ) -> None:
        super().__init__(width)
        self.causal = causal
        self.state_grows = window is None
        self.heads = heads
        self.kv_heads = heads if kv_heads is None else kv_heads
        self.head_width = width // heads
        self.dropout = dropout
        self.rotary_base = rotary_base
        self.window = window
        self.alibi = alibi
        kv_width = self.kv_heads * self.head_width
        self.project_in = nn.Linear(width, width + 2 * kv_width, bias=False)
        self.project_out = nn.Linear(width, width, bias=False)

    def forward(
        self, x: Tensor, state: State = None, *, lengths: Tensor | None = None
    ) -> tuple[Tensor, State]:
        """Map x (B, T, D) to y (B, T, D)."""
        if not self.causal:
            refuse_state(state)
        self.check_call(x, state, lengths)
        n_rows, length, width = x.shape
        new_real: Tensor | None = None
        if lengths is not None:
            new_real = real_positions(lengths, length)
            x = x.masked_fill(~new_real.unsqueeze(2), 0.0)  # the cache must not keep padding
        heads = self.project_in(x).view(n_rows, length, -1, self.head_width).transpose(1, 2)
        groups = [self.heads, self.kv_heads, self.kv_heads]
        query, key, value = heads.split(groups, dim=1)  # (B, H, T, d), and two of (B, G, T, d)
        start = tokens_read(state, windowed=self.window is not None)
        if self.rotary_base is not None:
            sine, cosine = rotary_table(start, length, query, self.rotary_base)
            query, key = rotate(query, sine, cosine), rotate(key, sine, cosine)
        real = new_real
        if state is not None:
            real = self._real_slots(state, new_real, x)
            key = torch.cat([state[0], key], dim=2)  # (B, G, S, d)
            value = torch.cat([state[1], value], dim=2)  # (B, G, S, d)
        mask = self._mask(query, key.shape[2], start, real, at_start=state is None)
        share = self.heads // self.kv_heads
        mixed = scaled_dot_product_attention(
            query,
            key.repeat_interleave(share, dim=1) if share > 1 else key,
            value.repeat_interleave(share, dim=1) if share > 1 else value,
            attn_mask=mask,
            dropout_p=self.dropout if self.training else 0.0,
            is_causal=self._is_plain() and state is None,
        )  # (B, H, T, d)
        y = self.project_out(mixed.transpose(1, 2).reshape(n_rows, length, width))  # (B, T, D)
        if self.window is None:
            # A view of the projection would keep the queries in memory as long as the cache.
            return y, (key.contiguous(), value.contiguous(), real)
        n_read = start + (x.new_full((n_rows,), length) if lengths is None else lengths).view(-1, 1)
        keys, values = (last_real(kept, self.window - 1, new_real) for kept in (key, value))
        return y, (keys, values, n_read.squeeze(1).long())

    def _is_plain(self) -> bool:
        """Whether torch's own causal mask says all that there is to say at the beginning."""
        return self.causal and self.window is None and not self.alibi

    def _real_slots(self, state: State, new_real: Tensor | None, x: Tensor) -> Tensor | None:
        """Mask (B, S) of the slots that hold tokens, or None if none of them can be padding."""
        n_rows, length, _ = x.shape
        n_cached = state[0].shape[2]
        if self.window is not None:
            age = torch.arange(n_cached, 0, -1, device=x.device)  # of a slot, in tokens
            cached_real = age <= state[2].unsqueeze(1)  # (B, P)
        elif state[2] is None and new_real is None:
            return None
        elif state[2] is None:
            cached_real = torch.ones(n_rows, n_cached, dtype=torch.bool, device=x.device)
        else:
            cached_real = state[2]
        if new_real is None:
            new_real = torch.ones(n_rows, length, dtype=torch.bool, device=x.device)
        return torch.cat([cached_real, new_real], dim=1)  # (B, S)

    def _mask(
        self,
        query: Tensor,
        n_keys: int,
        start: Tensor | int,
        real: Tensor | None,
        *,
        at_start: bool,
    ) -> Tensor | None:
        """What query t sees of key s, (T, S) or (B, H or 1, T, S): true or false, or ALiBi's bias.

        None: all that causality lets it. At the beginning of a sequence padding lies after all
        real tokens, so that causality hides it.
        """
        length = query.shape[2]
        if self._is_plain() and (at_start or (length == 1 and real is None)):
            return None
        if not self.causal and not self.alibi and self.window is None and real is None:
            return None
        time = torch.arange(length, device=query.device)
        slot = torch.arange(n_keys, device=query.device)
        seen = torch.ones(length, n_keys, dtype=torch.bool, device=query.device)
        if self.causal:
            seen = seen.tril(n_keys - length)  # (T, S)
        if real is not None:
            # Padding sees itself, lest a window full of padding be a softmax of nothing.
            own = time.unsqueeze(1) + n_keys - length == slot  # (T, S)
            seen = (seen & real[:, None, None]) | own  # (B, 1, T, S)
        if self.window is None and not self.alibi:
            return seen
        if self.window is not None or real is None:
            # Right-aligned: padding in the new tokens alone, where it changes no distance.
            distance = (time + n_keys - length).unsqueeze(1) - slot  # (T, S)
        else:
            position = real.cumsum(1) - 1  # (B, S)
            distance = (start + time).view(-1, 1, length, 1) - position[:, None, None]
        if self.window is not None:
            seen = seen & (distance.abs() < self.window)
        if not self.alibi:
            return seen
        slopes = alibi_slopes(self.heads, query).view(-1, 1, 1)
        bias = (-slopes * distance.abs()).to(query.dtype)  # (H, T, S) or (B, H, T, S)
        return bias.masked_fill(~seen, -torch.inf).expand(len(query), -1, -1, -1)

    def flops_per_token(self, length: int) -> float:
        """Projections, and 4 T D for the scores and the mixing of values.

        The square of T is counted whole, as is usual (Chowdhery et al. 2022,
        https://arxiv.org/abs/2204.02311, appendix B), though causality needs half. A window is a
        mask here: it saves memory and no operations.
        """
        projections = self.project_in.weight.numel() + self.project_out.weight.numel()
        return 2.0 * projections + 4.0 * length * self.width


def tokens_read(state: State, *, windowed: bool) -> Tensor | int:
    """The position of the first new token: one for all rows, or (B, 1) if they may differ."""
    if state is None:
        return 0
    keys, _, counted = state
    if windowed:
        n_read: Tensor = counted.unsqueeze(1)
        return n_read
    if counted is None:
        n_slots: int = keys.shape[2]
        return n_slots
    n_real: Tensor = counted.sum(1, keepdim=True)
    return n_real


def last_real(kept: Tensor, n_slots: int, new_real: Tensor | None) -> Tensor:
    """The last n_slots real tokens of kept (B, G, S, d), right-aligned; zeros before the first."""
    n_rows, n_heads, n_kept, depth = kept.shape
    end = torch.full((n_rows,), n_kept, device=kept.device)
    if new_real is not None:
        end = end - (~new_real).sum(1)  # (B,): padding stands last
    source = end.unsqueeze(1) - torch.arange(n_slots, 0, -1, device=kept.device)  # (B, W - 1)
    index = source.clamp(min=0).view(n_rows, 1, n_slots, 1).expand(-1, n_heads, -1, depth)
    return kept.gather(2, index).masked_fill((source < 0).view(n_rows, 1, n_slots, 1), 0.0)
