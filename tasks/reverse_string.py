"""Reverse string: write the symbols that were read, the last one first.

Delétang et al. 2023, https://arxiv.org/abs/2207.02098, table 1 (deterministic context-free: a
stack is enough, a state of fixed size is not); google-deepmind/neural_networks_chomsky_hierarchy
tasks/dcf/reverse_string.py.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from tasks.scoring import Writing
from tasks.task import UNSCORED, Batch, GeneratedTask, Tokens, check_integer


@dataclass(frozen=True, kw_only=True)
class ReverseString(Writing, GeneratedTask):
    """Write a string backwards, after all of it has been read.

    0 0 1 -> 1 0 0. The answer has as many symbols as the string, and no end symbol. Chance is one
    of the symbols.
    """

    length: int = 32  # tokens of the longest string
    shortest: int | None = None  # tokens; strings have any length from here on; None: all `length`
    symbols: int = 2

    def __post_init__(self) -> None:
        """Refuse fields that name no task."""
        super().__post_init__()
        check_integer("symbols", self.symbols, at_least=2)
        if self.shortest is not None:
            check_integer("shortest", self.shortest, at_least=1)
            if self.shortest > self.length:
                raise ValueError(f"shortest {self.shortest} is more than length {self.length}")

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

    def sample(self, rng: torch.Generator, batch_size: int) -> Batch:
        """Draw strings (B, T) and their reverse (B, T)."""
        B, T = batch_size, self.length
        strings = torch.randint(self.symbols, (B, T), generator=rng)
        if self.shortest is None:
            return Batch(inputs=strings, targets=strings.flip(1))
        lengths = torch.randint(self.shortest, T + 1, (B,), generator=rng)
        mirrored = lengths.unsqueeze(1) - 1 - torch.arange(T)  # (B, T), negative after the end
        answers = strings.gather(1, mirrored.clamp(min=0)).masked_fill(mirrored < 0, UNSCORED)
        padding = mirrored < 0
        return Batch(inputs=strings.masked_fill(padding, 0), targets=answers, lengths=lengths)
