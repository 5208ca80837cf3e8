"""Causal Transformer: Vaswani et al. 2017, https://arxiv.org/abs/1706.03762, equation 1, pre-norm,
with rotary positions: Su et al. 2021, https://arxiv.org/abs/2104.09864, equation 34.

Channels are rotated in pairs (i, i + d/2), as in Llama, where equation 34 has (2i, 2i + 1): the
same up to a permutation of the channels of each head.

B batch, T time, D width, H heads, d = D/H, P tokens in the cache, S = P + T.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend
from torch.nn.functional import pad, scaled_dot_product_attention

from architectures.body import Body, State, real_positions
from architectures.layers.checks import check_at_least, check_divides, check_dropout
from architectures.layers.residual import Residual

KERNEL_PROBE_TOKENS = 64


class RotaryAttention(Body):
    """Causal multi-head attention. State: (keys, values, real), the cache of what was read.

    Keys (already rotated) and values are (B, H, P, d). `real` (B, P) is true at the slots that
    hold tokens and not padding; it is None as long as no `lengths` were given, and then all do.
    """

    state_grows = True

    def __init__(self, width: int, *, heads: int, dropout: float, rotary_base: float) -> None:
        super().__init__(width)
        self.heads = heads
        self.dropout = dropout
        self.rotary_base = rotary_base
        self.project_in = nn.Linear(width, 3 * width, bias=False)
        self.project_out = nn.Linear(width, width, bias=False)

    def forward(
        self, x: Tensor, state: State = None, *, lengths: Tensor | None = None
    ) -> tuple[Tensor, State]:
        """Map x (B, T, D) to y (B, T, D)."""
        self.check_call(x, state, lengths)
        n_rows, length, width = x.shape
        real: Tensor | None = None
        if lengths is not None:
            real = real_positions(lengths, length)
            x = x.masked_fill(~real.unsqueeze(2), 0.0)  # the cache must not keep padding
        heads = self.project_in(x).view(n_rows, length, 3, self.heads, -1)  # (B, T, 3, H, d)
        query, key, value = heads.permute(2, 0, 3, 1, 4).unbind(0)  # each (B, H, T, d)
        start = 0 if state is None else next_position(*state)
        sine, cosine = rotary_table(start, length, query, self.rotary_base)
        query, key = rotate(query, sine, cosine), rotate(key, sine, cosine)
        mask: Tensor | None = None
        if state is not None:
            cached_keys, cached_values, cached_real = state
            n_cached = cached_keys.shape[2]
            mask = attention_mask(n_cached, cached_real, x)
            real = extend_mask(n_cached, cached_real, real, x)
            key = torch.cat([cached_keys, key], dim=2)  # (B, H, S, d)
            value = torch.cat([cached_values, value], dim=2)  # (B, H, S, d)
        mixed = scaled_dot_product_attention(
            query,
            key,
            value,
            # At the beginning of a sequence padding lies after all real tokens: causality hides it.
            attn_mask=mask,
            dropout_p=self.dropout if self.training else 0.0,
            is_causal=state is None,
        )  # (B, H, T, d)
        y = self.project_out(mixed.transpose(1, 2).reshape(n_rows, length, width))  # (B, T, D)
        # A view of the projection would keep the queries in memory as long as the cache.
        return y, (key, value.contiguous(), real)

    @property
    def kernel(self) -> str:
        """The backend that torch chooses for the first tokens of a sequence in training."""
        weight = self.project_in.weight
        shape = (1, self.heads, KERNEL_PROBE_TOKENS, self.width // self.heads)
        probe = torch.empty(shape, dtype=weight.dtype, device=weight.device, requires_grad=True)
        choice = SDPBackend(torch._fused_sdp_choice(probe, probe, probe, is_causal=True))
        return f"sdpa-{choice.name.lower().removesuffix('_attention')}"

    def flops_per_token(self, length: int) -> float:
        """Projections, 8 D^2, and 4 T D for the scores and the mixing of values.

        The square of T is counted whole, as is usual (Chowdhery et al. 2022,
        https://arxiv.org/abs/2204.02311, appendix B), though causality needs half.
        """
        return 8.0 * self.width**2 + 4.0 * length * self.width


class Transformer(Residual):
    """Causal Transformer: pre-norm, rotary positions, multi-head attention with a growing cache.

    State: per layer the keys and values read so far.
    """

    state_grows = True

    def __init__(
        self,
        width: int,
        *,
        layers: int = 2,
        heads: int = 4,
        mlp_ratio: float = 4.0,
        dropout: float = 0.0,
        attention_dropout: float = 0.0,
        rotary_base: float = 10_000.0,
    ) -> None:
        check_at_least("layers", layers, 1)
        check_at_least("heads", heads, 1)
        check_dropout(attention_dropout)
        check_at_least("rotary_base", rotary_base, 1)
        # Rotation turns pairs of channels, so that each head needs an even number.
        check_divides("2 * heads =", 2 * heads, width)
        mixers = [
            RotaryAttention(width, heads=heads, dropout=attention_dropout, rotary_base=rotary_base)
            for _ in range(layers)
        ]
        super().__init__(width, mixers, mlp_ratio=mlp_ratio, dropout=dropout)

    @classmethod
    def width_multiple(cls, **options: Any) -> int:
        """An even number of channels for each head."""
        return 2 * int(options.get("heads", 4))


def rotary_table(
    start: Tensor | int, length: int, like: Tensor, base: float
) -> tuple[Tensor, Tensor]:
    """Sines and cosines of the angles at `length` positions from `start`.

    (T, d/2), or (B, 1, T, d/2) if the rows start at different positions. At least in float32:
    bfloat16 cannot tell position 257 from 256.
    """
    dtype = torch.promote_types(like.dtype, torch.float32)
    half = like.shape[-1] // 2
    rate = base ** (-torch.arange(half, dtype=dtype, device=like.device) / half)  # (d/2,)
    position = start + torch.arange(length, device=like.device)  # (T,) or (B, T)
    angle = position.to(dtype).unsqueeze(-1) * rate  # (T, d/2) or (B, T, d/2)
    if angle.dim() == 3:
        angle = angle.unsqueeze(1)  # (B, 1, T, d/2)
    return angle.sin().to(like.dtype), angle.cos().to(like.dtype)


def rotate(x: Tensor, sine: Tensor, cosine: Tensor) -> Tensor:
    """Rotate the pairs (i, i + d/2) of x (B, H, T, d) by their angles."""
    first, second = x.chunk(2, dim=-1)  # each (B, H, T, d/2)
    return torch.cat([first * cosine - second * sine, second * cosine + first * sine], dim=-1)


def next_position(keys: Tensor, values: Tensor, real: Tensor | None) -> Tensor | int:
    """The position of the first new token: one for all rows, or (B, 1) if they differ."""
    return keys.shape[2] if real is None else real.sum(1, keepdim=True)


def extend_mask(
    n_cached: int, cached_real: Tensor | None, real: Tensor | None, x: Tensor
) -> Tensor | None:
    """The mask (B, S) of all slots, or None if none of them can be padding."""
    if cached_real is None and real is None:
        return None
    n_rows, length, _ = x.shape
    if cached_real is None:
        cached_real = torch.ones(n_rows, n_cached, dtype=torch.bool, device=x.device)
    if real is None:
        real = torch.ones(n_rows, length, dtype=torch.bool, device=x.device)
    return torch.cat([cached_real, real], dim=1)  # (B, S)


def attention_mask(n_cached: int, cached_real: Tensor | None, x: Tensor) -> Tensor | None:
    """Which of the S keys each of the T new queries may see: (T, S) or (B, 1, T, S).

    All of the cache but its padding, and of the new tokens those up to the query. None: all.
    """
    length = x.shape[1]
    if length == 1 and cached_real is None:
        return None
    size = (length, n_cached + length)
    mask = torch.ones(size, dtype=torch.bool, device=x.device).tril(n_cached)
    if cached_real is None:
        return mask  # (T, S)
    visible = pad(cached_real, (0, length), value=True)  # (B, S)
    return mask & visible[:, None, None]  # (B, 1, T, S)
