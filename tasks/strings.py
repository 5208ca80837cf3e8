"""What tasks on strings share: trained on strings of random length, tested at each length apart.

Delétang et al. 2023, https://arxiv.org/abs/2207.02098, section 4 and
google-deepmind/neural_networks_chomsky_hierarchy experiments/example.py, range_evaluation.py: train
at lengths uniform in 1..40, test at every length 1..100, score the mean over those beyond 40. Here
that is `shortest: 1`, `length: 40` and the run's `test_lengths`.

Strings are drawn, as published, and not listed: a short one of val or test may be one of train
(there are 2^T strings of T bits). What is new to a model there is the length.

B batch, T time.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from tasks.task import UNSCORED, Batch, GeneratedTask, Split, check_integer


@dataclass(frozen=True, kw_only=True)
class StringTask(GeneratedTask):
    """A task on strings: subclasses write `draw`, for lengths that differ from row to row.

    Strings of train have any length from `shortest` to `length`, all alike likely, and are padded
    on the right; those of val and test are all as long as can be, so that a score at a length is
    the score at that length.
    """

    least: ClassVar[int] = 1
    """Tokens of the smallest string there is."""

    shortest: int | None = None  # tokens of the shortest training string; None: all `length`

    def __post_init__(self) -> None:
        """Refuse fields that name no task."""
        super().__post_init__()
        check_integer("length", self.length, at_least=self.least)
        if self.shortest is not None:
            check_integer("shortest", self.shortest, at_least=self.least)
            if self.shortest > self.length:
                raise ValueError(f"shortest {self.shortest} is more than length {self.length}")

    @property
    def stride(self) -> int:
        """There are strings of `least` tokens and of every so many more."""
        return 1

    @property
    def longest(self) -> int:
        """Tokens of the longest string that fits: the length, or less where none has that many."""
        return self.length - (self.length - self.least) % self.stride

    def draw(self, rng: torch.Generator, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Draw strings (B, T) of these lengths (B,), and their answers; the rest is padded here."""
        raise NotImplementedError

    def sample(self, rng: torch.Generator, batch_size: int) -> Batch:
        """Draw the longest strings."""
        return self._padded(rng, torch.full((batch_size,), self.longest))

    def sample_split(self, split: Split, rng: torch.Generator, batch_size: int) -> Batch:
        """Draw strings of random lengths for train, and the longest for val and test."""
        if split != "train" or self.shortest is None:
            return self.sample(rng, batch_size)
        missing = -(-(self.shortest - self.least) // self.stride)  # strides above the least
        first = min(self.least + self.stride * missing, self.longest)
        n_lengths = (self.longest - first) // self.stride + 1
        strides = torch.randint(n_lengths, (batch_size,), generator=rng)
        return self._padded(rng, first + self.stride * strides)

    def _padded(self, rng: torch.Generator, lengths: Tensor) -> Batch:
        inputs, targets = self.draw(rng, lengths)
        if bool((lengths == self.length).all()) and self.shortest is None:
            return Batch(inputs=inputs, targets=targets)
        padding = torch.arange(self.length) >= lengths.unsqueeze(1)  # (B, T)
        if self.kind == "per_step":
            targets = targets.masked_fill(padding, UNSCORED)
        return Batch(inputs=inputs.masked_fill(padding, 0), targets=targets, lengths=lengths)
