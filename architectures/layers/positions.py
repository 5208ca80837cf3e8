"""Where a token stands: rotary, learned and sinusoidal positions, and ALiBi's slopes.

Rotary: Su et al. 2021, https://arxiv.org/abs/2104.09864, equation 34. Channels are rotated in pairs
(i, i + d/2), as in Llama, where equation 34 has (2i, 2i + 1): the same up to a permutation of the
channels of each head. Sinusoidal: Vaswani et al. 2017, https://arxiv.org/abs/1706.03762, section
3.5, sines before cosines where the paper alternates them: again a permutation. ALiBi: Press et al.
2022, https://arxiv.org/abs/2108.12409, section 3.

B batch, T time, D width, H heads, d channels of a head, S keys.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from architectures.layers.checks import check_at_least

LEARNED_STD = 0.02  # GPT-2's
SINUSOIDAL_BASE = 10_000.0


def rotary_table(
    start: Tensor | int, length: int, like: Tensor, base: float
) -> tuple[Tensor, Tensor]:
    """Sines and cosines of the angles at `length` positions from `start`.

    (T, d/2), or (B, 1, T, d/2) if the rows start at different positions.
    """
    position = start + torch.arange(length, device=like.device)  # (T,) or (B, T)
    angle = angles(position, like.shape[-1] // 2, like, base)  # (T, d/2) or (B, T, d/2)
    if angle.dim() == 3:
        angle = angle.unsqueeze(1)  # (B, 1, T, d/2)
    return angle.sin().to(like.dtype), angle.cos().to(like.dtype)


def rotate(x: Tensor, sine: Tensor, cosine: Tensor) -> Tensor:
    """Rotate the pairs (i, i + d/2) of x (B, H, T, d) by their angles."""
    first, second = x.chunk(2, dim=-1)  # each (B, H, T, d/2)
    return torch.cat([first * cosine - second * sine, second * cosine + first * sine], dim=-1)


def angles(position: Tensor, n_rates: int, like: Tensor, base: float) -> Tensor:
    """Positions (...) times n_rates falling rates: (..., n_rates).

    At least in float32: bfloat16 cannot tell position 257 from 256.
    """
    dtype = torch.promote_types(like.dtype, torch.float32)
    rate = base ** (-torch.arange(n_rates, dtype=dtype, device=like.device) / n_rates)
    return position.to(dtype).unsqueeze(-1) * rate


def sinusoids(position: Tensor, like: Tensor) -> Tensor:
    """Sines, then cosines of the positions (...): (..., D)."""
    angle = angles(position, -(-like.shape[-1] // 2), like, SINUSOIDAL_BASE)  # (..., D/2)
    table = torch.cat([angle.sin(), angle.cos()], dim=-1)[..., : like.shape[-1]]
    return table.to(like.dtype)


def alibi_slopes(heads: int, like: Tensor) -> Tensor:
    """Slopes (H,), falling from 2^(-8/H) to 2^-8, at least in float32 as distances may be large.

    Of H that is no power of 2 the authors' code mixes two such series; here it is one.
    """
    dtype = torch.promote_types(like.dtype, torch.float32)
    order = torch.arange(1, heads + 1, dtype=dtype, device=like.device)
    return torch.exp2(-8.0 * order / heads)


class LearnedPositions(nn.Module):
    """A table with a row for each of max_length positions."""

    def __init__(self, max_length: int, width: int) -> None:
        super().__init__()
        check_at_least("max_length", max_length, 1)
        self.table = nn.Parameter(LEARNED_STD * torch.randn(max_length, width))

    def forward(self, position: Tensor, n_read: Tensor | int) -> Tensor:
        """Rows (..., D) of the positions (...), which padding may take beyond n_read.

        Raises:
            ValueError: if a sequence has become longer than the table.
        """
        longest, max_length = int(torch.as_tensor(n_read).max()), len(self.table)
        if longest > max_length:
            raise ValueError(
                f"{longest} tokens are more than the {max_length} learned positions: "
                "set max_length to the longest sequence, or take another position"
            )
        return self.table[position.clamp(max=max_length - 1)]
