"""Texts of different lengths one after another in memory, and batches of them side by side.

B batch, T time.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

BYTE_SYMBOLS = 257
"""Padding, then the bytes: byte b is symbol b + 1."""


@dataclass(frozen=True)
class Documents:
    """Symbols of all texts, uint8, text i being symbols[ends[i - 1] : ends[i]]."""

    symbols: Tensor  # (total,) uint8
    ends: Tensor  # (N,) int64

    @staticmethod
    def of(texts: Iterable[bytes], longest: int | None = None) -> Documents:
        """Texts, the first `longest` bytes of each."""
        cut = [text[:longest] for text in texts]
        sizes = torch.tensor([len(text) for text in cut], dtype=torch.int64)
        joined = np.frombuffer(bytearray(b"".join(cut)), dtype=np.uint8)
        return Documents(torch.from_numpy(joined), sizes.cumsum(0))

    def __len__(self) -> int:
        return len(self.ends)

    def padded(self, rows: Tensor, length: int, shift: int = 0) -> tuple[Tensor, Tensor]:
        """Texts `rows` (B,) cut to `length`, as symbols + shift (B, T), 0 after the end.

        Returns:
            Symbols (B, T) int64, and how many of them are real (B,), at least 1.
        """
        starts = torch.where(rows > 0, self.ends[rows - 1], 0)
        lengths = (self.ends[rows] - starts).clamp(max=length)  # (B,)
        steps = torch.arange(length)
        real = steps < lengths[:, None]  # (B, T)
        places = (starts[:, None] + steps).clamp(max=max(0, len(self.symbols) - 1))
        found = self.symbols[places].long() + shift if len(self.symbols) else places * 0
        return found.masked_fill(~real, 0), lengths.clamp(min=1)
