"""Rows of different lengths, one after another in memory, and batches of them side by side.

B batch, T places.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Ragged:
    """Row i is values[ends[i - 1] : ends[i]]."""

    values: Tensor  # (total,) int32
    ends: Tensor  # (N,) int64

    @staticmethod
    def of(rows: Iterable[Sequence[int] | bytes]) -> Ragged:
        """Put rows one after another."""
        kept = list(rows)
        sizes = torch.tensor([len(row) for row in kept], dtype=torch.int64)
        joined = np.fromiter(chain.from_iterable(kept), np.int32, count=int(sizes.sum()))
        return Ragged(torch.from_numpy(joined), sizes.cumsum(0))

    def __len__(self) -> int:
        return len(self.ends)

    def padded(self, rows: Tensor, width: int, fill: int) -> tuple[Tensor, Tensor]:
        """Rows `rows` (B,), none longer than `width`, with `fill` after their ends.

        Returns:
            Values (B, width) int64 and lengths (B,) int64.
        """
        starts = torch.where(rows > 0, self.ends[rows - 1], 0)  # (B,)
        lengths = self.ends[rows] - starts  # (B,)
        places = torch.arange(width)
        real = places < lengths[:, None]  # (B, T)
        found = self.values[torch.where(real, starts[:, None] + places, 0)].long()
        return found.masked_fill(~real, fill), lengths
