"""Reverse string: write the symbols that were read, the last one first.

Delétang et al. 2023, https://arxiv.org/abs/2207.02098, table 1 (deterministic context-free: a
stack is enough, a state of fixed size is not); google-deepmind/neural_networks_chomsky_hierarchy
tasks/dcf/reverse_string.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from tasks.scoring import Writing
from tasks.strings import StringTask
from tasks.task import UNSCORED, Tokens, check_integer


@dataclass(frozen=True, kw_only=True)
class ReverseString(Writing, StringTask):
    """Write a string backwards, after all of it has been read.

    0 0 1 -> 1 0 0. The answer has as many symbols as the string, and no end symbol. Chance is one
    of the symbols.
    """

    version: ClassVar[int] = 2

    length: int = 32  # tokens of the longest string
    symbols: int = 2

    def __post_init__(self) -> None:
        """Refuse fields that name no task."""
        super().__post_init__()
        check_integer("symbols", self.symbols, at_least=2)

    @property
    def inputs(self) -> Tokens:
        """The symbols."""
        return Tokens(self.symbols)

    @property
    def n_outputs(self) -> int:
        """The symbols."""
        return self.symbols

    @property
    def tokens(self) -> int:
        """The string and its answer."""
        return 2 * self.length

    def draw(self, rng: torch.Generator, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Draw strings (B, T) and their reverse (B, T)."""
        strings = torch.randint(self.symbols, (len(lengths), self.length), generator=rng)
        mirrored = lengths.unsqueeze(1) - 1 - torch.arange(self.length)  # (B, T), < 0 after the end
        answers = strings.gather(1, mirrored.clamp(min=0)).masked_fill(mirrored < 0, UNSCORED)
        return strings, answers
