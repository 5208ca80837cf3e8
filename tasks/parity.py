"""Parity: is the number of ones so far odd? The smallest task that needs one bit of state.

A regular language outside the reach of fixed-depth attention: Hahn 2020,
https://arxiv.org/abs/1906.06755. Labelled at every step, where Delétang et al. 2023
(https://arxiv.org/abs/2207.02098, tasks/regular/parity_check.py of
google-deepmind/neural_networks_chomsky_hierarchy) label the last one only: the same state, a denser
signal.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from tasks.scoring import Classification
from tasks.strings import StringTask
from tasks.task import Kind, Metric, Tokens


@dataclass(frozen=True, kw_only=True)
class Parity(Classification, StringTask):
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

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """Accuracy; without memory only the first step can be known."""
        baseline = (1 + (self.longest - 1) / 2) / self.longest
        (accuracy,) = super().metrics
        return (replace(accuracy, baseline=baseline, baseline_rule="the bit just read"),)

    def draw(self, rng: torch.Generator, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Draw bits (B, T) and their running parity (B, T)."""
        bits = torch.randint(2, (len(lengths), self.length), generator=rng)
        return bits, bits.cumsum(1) % 2
