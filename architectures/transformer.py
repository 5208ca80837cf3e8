"""Causal Transformer: Vaswani et al. 2017, https://arxiv.org/abs/1706.03762, equation 1, pre-norm,
with rotary positions: Su et al. 2021, https://arxiv.org/abs/2104.09864, equation 34, or others
(layers/positions.py), and grouped queries or a sliding window (layers/attention.py).

B batch, T time, D width.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor

from architectures.body import State
from architectures.layers.attention import Attention, tokens_read
from architectures.layers.checks import (
    check_at_least,
    check_choice,
    check_divides,
    check_dropout,
)
from architectures.layers.positions import LearnedPositions, sinusoids
from architectures.layers.residual import Residual

POSITIONS = ("rotary", "learned", "sinusoidal", "alibi", "none")


class Transformer(Residual):
    """Causal Transformer: pre-norm, rotary positions, multi-head attention with a growing cache.

    State: per layer the keys and values read so far, or of the last `window` tokens alone.
    `max_length` is the number of learned positions, and has no part in the others.
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
        position: Literal["rotary", "learned", "sinusoidal", "alibi", "none"] = "rotary",
        max_length: int = 1024,
        window: int | None = None,
        kv_heads: int | None = None,
    ) -> None:
        check_at_least("layers", layers, 1)
        check_at_least("heads", heads, 1)
        check_dropout(attention_dropout, "attention_dropout")
        check_at_least("rotary_base", rotary_base, 1)
        check_at_least("max_length", max_length, 1)
        check_choice("position", position, POSITIONS)
        if window is not None:
            check_at_least("window", window, 1)
        if kv_heads is not None:
            check_at_least("kv_heads", kv_heads, 1)
            if heads % kv_heads:
                raise ValueError(f"kv_heads {kv_heads} must divide heads {heads}")
        # Rotation turns pairs of channels, so that each head needs an even number.
        check_divides("2 * heads =", 2 * heads, width)
        mixers = [
            Attention(
                width,
                heads=heads,
                dropout=attention_dropout,
                rotary_base=rotary_base if position == "rotary" else None,
                kv_heads=kv_heads,
                window=window,
                alibi=position == "alibi",
                causal=type(self).causal,
            )
            for _ in range(layers)
        ]
        super().__init__(width, mixers, mlp_ratio=mlp_ratio, dropout=dropout)
        self.windowed = window is not None
        self.position = position
        self.learned: LearnedPositions | None = None
        if position == "learned":
            self.learned = LearnedPositions(max_length, width)
            self.max_length = max_length

    def _through_blocks(
        self, x: Tensor, state: State, lengths: Tensor | None, *, one_token: bool
    ) -> tuple[Tensor, State]:
        """Add the positions to x (B, T, D), or (B, D) if it is one token, and run the blocks."""
        if self.position in ("learned", "sinusoidal"):
            n_new = 1 if one_token else x.shape[1]
            start = tokens_read(state[0] if state else None, windowed=self.windowed)
            position = start + torch.arange(n_new, device=x.device)  # (T,) or (B, T)
            if self.learned is not None:
                ends = n_new if lengths is None else lengths.unsqueeze(1)
                added = self.learned(position, start + ends)
            else:
                added = sinusoids(position, x)  # (T, D) or (B, T, D)
            x = x + (added.squeeze(-2) if one_token else added)
        return super()._through_blocks(x, state, lengths, one_token=one_token)

    @classmethod
    def width_multiple(cls, **options: Any) -> int:
        """An even number of channels for each head."""
        return 2 * int(options.get("heads", 4))
