"""Even pairs: whether a bit string changes an even number of times.

Delétang et al. 2023, https://arxiv.org/abs/2207.02098, table 1 (regular);
google-deepmind/neural_networks_chomsky_hierarchy tasks/regular/even_pairs.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from tasks.scoring import Classification
from tasks.strings import StringTask
from tasks.task import Kind, Tokens


@dataclass(frozen=True, kw_only=True)
class EvenPairs(Classification, StringTask):
    """Whether a bit string has an even (0) or odd (1) number of unequal neighbours.

    0 0 1 1 1 0 -> 0 (one 01 and one 10); 0 1 0 1 0 0 1 -> 1 (three 01 and two 10). The same as
    whether the last bit differs from the first, so that one bit carried to the end is enough.
    Chance is 0.5; a single bit has no neighbours.
    """

    kind: ClassVar[Kind] = "per_sequence"

    length: int = 40  # tokens

    @property
    def inputs(self) -> Tokens:
        """Bits."""
        return Tokens(2)

    @property
    def n_outputs(self) -> int:
        """Even or odd."""
        return 2

    @property
    def chance(self) -> float:
        """One in two, but that strings of one bit are all even."""
        return 1.0 if self.length == 1 else 0.5

    def draw(self, rng: torch.Generator, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Draw bits (B, T) and classes (B,)."""
        bits = torch.randint(2, (len(lengths), self.length), generator=rng)
        last = bits.gather(1, lengths.unsqueeze(1) - 1).squeeze(1)  # (B,)
        return bits, (bits[:, 0] != last).long()
