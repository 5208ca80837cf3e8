"""Parity: is the number of ones so far odd? The smallest task that needs one bit of state.

A regular language outside the reach of fixed-depth attention: Hahn 2020,
https://arxiv.org/abs/1906.06755. Labelled at every step, where Delétang et al. 2023
(https://arxiv.org/abs/2207.02098) label the last one only: the same state, a denser signal.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from tasks.scoring import Classification
from tasks.task import Batch, GeneratedTask, Kind, Tokens


@dataclass(frozen=True, kw_only=True)
class Parity(Classification, GeneratedTask):
    """Parity of the bits so far, at every step.

    1 0 1 1 -> 1 1 0 1: each label is the xor of the bits read so far. Chance is 0.5.
    """

    kind: ClassVar[Kind] = "per_step"

    length: int = 64  # tokens

    @property
    def inputs(self) -> Tokens:
        """Bits."""
        return Tokens(2)

    @property
    def n_outputs(self) -> int:
        """Even or odd."""
        return 2

    def sample(self, rng: torch.Generator, batch_size: int) -> Batch:
        """Draw bits (B, T) and their running parity (B, T)."""
        bits = torch.randint(2, (batch_size, self.length), generator=rng)
        return Batch(inputs=bits, targets=bits.cumsum(1) % 2)
