"""Cycle navigation: where on a ring steps back, forward and nowhere end.

Delétang et al. 2023, https://arxiv.org/abs/2207.02098, table 1 (regular: the word problem of a
cyclic group); google-deepmind/neural_networks_chomsky_hierarchy tasks/regular/cycle_navigation.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import ClassVar

import torch
from torch import Tensor

from tasks.scoring import Classification
from tasks.strings import StringTask
from tasks.task import Kind, Tokens, check_integer


@dataclass(frozen=True, kw_only=True)
class CycleNavigation(Classification, StringTask):
    """The place on a ring of five after steps of -1, 0 or +1 from place 0.

    0 1 0 2 2 2 -> 1: the symbols 0, 1, 2 are the steps -1, 0, +1. Chance is the likeliest place:
    0.2 but for a few steps.
    """

    kind: ClassVar[Kind] = "per_sequence"

    length: int = 40  # tokens
    places: int = 5

    def __post_init__(self) -> None:
        """Refuse fields that name no task."""
        super().__post_init__()
        check_integer("places", self.places, at_least=3)

    @property
    def inputs(self) -> Tokens:
        """Steps."""
        return Tokens(3)

    @property
    def n_outputs(self) -> int:
        """The places."""
        return self.places

    @property
    def chance(self) -> float:
        """The share of the likeliest place."""
        return _likeliest(self.length, self.places)

    def draw(self, rng: torch.Generator, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Draw steps (B, T) and the places where they end (B,)."""
        steps = torch.randint(3, (len(lengths), self.length), generator=rng)
        places = (steps - 1).cumsum(1) % self.places  # (B, T)
        return steps, places.gather(1, lengths.unsqueeze(1) - 1).squeeze(1)


@cache
def _likeliest(n_steps: int, places: int) -> float:
    stay = torch.eye(places, dtype=torch.float64)
    walk = (stay + stay.roll(1, 0) + stay.roll(-1, 0)) / 3
    return round(float(torch.linalg.matrix_power(walk, n_steps)[0].max()), 9)  # .2, not .1999...
