"""Adding: recall two marked numbers among many and add them.

Hochreiter and Schmidhuber 1997, https://doi.org/10.1162/neco.1997.9.8.1735, in the form that
became usual: one mark in each half, as in Arjovsky et al. 2016, https://arxiv.org/abs/1511.06464
(amarshah/complex_RNN adding_problem.py). Bai et al. 2018 (locuslab/TCN) put both marks anywhere.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import torch

from tasks.scoring import Regression
from tasks.task import Batch, GeneratedTask, Kind, Metric, Reals, check_integer


@dataclass(frozen=True, kw_only=True)
class Adding(Regression, GeneratedTask):
    """Sum of the two marked numbers in a sequence of random ones.

    (.5, 0) (.3, 1) (.9, 0) (.1, 1) -> .4: a number uniform in [0, 1) beside its mark, one mark in
    each half. Chance is always answering 1, whose mean squared error is 2/12 = 1/6.
    """

    kind: ClassVar[Kind] = "per_sequence"

    length: int = 128  # tokens

    def __post_init__(self) -> None:
        """Refuse fields that name no task."""
        super().__post_init__()
        check_integer("length", self.length, at_least=2)

    @property
    def inputs(self) -> Reals:
        """A number and its mark."""
        return Reals(2)

    @property
    def n_outputs(self) -> int:
        """The sum."""
        return 1

    @property
    def chance(self) -> float:
        """The variance of a sum of two uniform numbers."""
        return 1 / 6

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """Mean squared error, beside that of forgetting the first number."""
        (mse,) = super().metrics
        return (replace(mse, baseline=1 / 12, baseline_rule="the second number plus 1/2"),)

    def sample(self, rng: torch.Generator, batch_size: int) -> Batch:
        """Draw numbers and marks (B, T, 2) and sums (B, 1)."""
        half = self.length // 2
        numbers = torch.rand(batch_size, self.length, generator=rng, dtype=torch.float32)
        first = torch.randint(half, (batch_size, 1), generator=rng)
        second = torch.randint(half, self.length, (batch_size, 1), generator=rng)
        marked = torch.cat([first, second], dim=1)  # (B, 2)
        marks = torch.zeros_like(numbers).scatter_(1, marked, 1.0)
        return Batch(
            inputs=torch.stack([numbers, marks], dim=2),  # (B, T, 2)
            targets=numbers.gather(1, marked).sum(1, keepdim=True),  # (B, 1)
        )
