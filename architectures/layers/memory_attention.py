"""Attention of a decoder to the outputs of an encoder.

B batch, T tokens of the source, S queries, D width.
"""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

import torch
from torch import Tensor, nn

from architectures.body import real_positions


class Memory(NamedTuple):
    """The outputs of an encoder, 0 where its source is padding."""

    values: Tensor  # (B, T, D)
    real: Tensor  # (B, T), true at real tokens

    @classmethod
    def of(cls, y: Tensor, lengths: Tensor | None) -> Memory:
        """The memory of outputs y (B, T, D) of which `lengths` (B,) are real."""
        if lengths is None:
            return cls(y, torch.ones(y.shape[:2], dtype=torch.bool, device=y.device))
        real = real_positions(lengths, y.shape[1])
        return cls(y.masked_fill(~real.unsqueeze(2), 0.0), real)

    def last(self) -> Tensor:
        """The output at the last real token (B, D)."""
        last = self.real.sum(1) - 1  # (B,)
        return self.values[torch.arange(len(last), device=last.device), last]

    def mean(self) -> Tensor:
        """The mean over the real tokens (B, D)."""
        return self.values.sum(1) / self.real.sum(1, keepdim=True)


Kept: TypeAlias = tuple[Tensor, Tensor, Tensor]
"""What every query reads, computed once for a source: keys and values (B, T, D), real (B, T)."""


class AdditiveAttention(nn.Module):
    """e_j = v . tanh(W s + U h_j), Bahdanau et al. 2015, https://arxiv.org/abs/1409.0473, appendix
    A.1.2; the context is sum_j softmax(e)_j h_j, equations 5 and 6.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.query = nn.Linear(width, width, bias=False)  # W
        self.key = nn.Linear(width, width, bias=False)  # U
        self.score = nn.Linear(width, 1, bias=False)  # v

    def kept(self, memory: Memory) -> Kept:
        """U h_j of all j, beside the memory."""
        return (self.key(memory.values), *memory)

    def forward(self, queries: Tensor, kept: Kept) -> Tensor:
        """Map queries s (B, S, D) to contexts (B, S, D)."""
        keys, _, _ = kept
        hidden = torch.tanh(self.query(queries).unsqueeze(2) + keys.unsqueeze(1))  # (B, S, T, D)
        return weighted(self.score(hidden).squeeze(3), kept)  # from (B, S, T)

    def flops_per_query(self, length: int) -> float:
        """The query's product, and for each token of the source U h, v . tanh and the sum."""
        D = self.query.in_features
        return 2.0 * D * D + 2.0 * D * D + length * (2.0 * D + 2.0 * D)


class GeneralAttention(nn.Module):
    """e_j = s . W h_j, Luong et al. 2015, https://arxiv.org/abs/1508.04025, section 3.1."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.key = nn.Linear(width, width, bias=False)  # W

    def kept(self, memory: Memory) -> Kept:
        """W h_j of all j, beside the memory."""
        return (self.key(memory.values), *memory)

    def forward(self, queries: Tensor, kept: Kept) -> Tensor:
        """Map queries s (B, S, D) to contexts (B, S, D)."""
        return weighted(queries @ kept[0].transpose(1, 2), kept)  # from (B, S, T)

    def flops_per_query(self, length: int) -> float:
        """W h of one token, and for each token of the source s . W h and the sum."""
        D = self.key.in_features
        return 2.0 * D * D + length * (2.0 * D + 2.0 * D)


def weighted(scores: Tensor, kept: Kept) -> Tensor:
    """The values' mean (B, S, D) by the softmax of scores (B, S, T) over the real tokens."""
    _, values, real = kept
    weights = scores.masked_fill(~real.unsqueeze(1), -torch.inf).softmax(-1)
    return weights.to(values.dtype) @ values
