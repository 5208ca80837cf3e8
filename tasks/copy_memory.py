"""Copying memory: keep the first symbols over a long delay, then repeat them.

Hochreiter and Schmidhuber 1997, https://doi.org/10.1162/neco.1997.9.8.1735, in the form of
Arjovsky et al. 2016, https://arxiv.org/abs/1511.06464, section 4.1 (amarshah/complex_RNN
memory_problem.py): of its delay `time_steps`, `length` is the delay + 20. Bai et al. 2018
(locuslab/TCN) go on with the marker where it has blanks, and their accuracy counts the blanks.
state-spaces/s4 `copying` scores the answer alone and has a marker for each of its symbols.

T length, N symbols to copy, A different ones.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from tasks.scoring import accuracy, cross_entropy
from tasks.task import UNSCORED, Batch, Count, GeneratedTask, Kind, Metric, Tokens, check_integer


@dataclass(frozen=True, kw_only=True)
class CopyMemory(GeneratedTask):
    """Symbols, a long delay, a marker, then the symbols again.

    3 7 _ _ _ > _ _ -> _ _ _ _ _ _ 3 7: `>` is the marker and `_` a blank, 0. The loss counts every
    step, as published; accuracy counts the answer, where chance is 1/8. Always expecting blanks and
    then guessing has a cross-entropy of 10 log 8 / T nats.
    """

    kind: ClassVar[Kind] = "per_step"

    length: int = 120  # tokens: the symbols, blanks, the marker and the steps of the answer
    n_data: int = 10  # symbols to copy
    alphabet: int = 8  # different ones

    def __post_init__(self) -> None:
        """Refuse fields that name no task."""
        super().__post_init__()
        check_integer("n_data", self.n_data, at_least=1)
        check_integer("alphabet", self.alphabet, at_least=2)
        if self.length < 2 * self.n_data + 1:
            raise ValueError(
                f"length must be at least 2 * n_data + 1 = {2 * self.n_data + 1}, "
                f"not {self.length}: the data, the marker and the answer must fit"
            )

    @property
    def inputs(self) -> Tokens:
        """The blank, the symbols and the marker."""
        return Tokens(self.alphabet + 2)

    @property
    def n_outputs(self) -> int:
        """The blank and the symbols."""
        return self.alphabet + 1

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """Accuracy in the answer, and the published cross-entropy of all steps."""
        memoryless = self.n_data * math.log(self.alphabet) / self.length
        return (
            Metric("accuracy", "fraction", higher_is_better=True, chance=1 / self.alphabet),
            Metric("cross_entropy", "nats", higher_is_better=False, chance=memoryless),
        )

    def loss(self, outputs: Tensor, targets: Tensor) -> Count:
        """Cross-entropy in nats."""
        return cross_entropy(outputs, targets)

    def score(self, outputs: Tensor, targets: Tensor) -> Mapping[str, Count]:
        """Accuracy over the answer, cross-entropy over all."""
        answer = targets.masked_fill(targets == 0, UNSCORED)
        return {
            "accuracy": accuracy(outputs, answer),
            "cross_entropy": cross_entropy(outputs, targets),
        }

    def sample(self, rng: torch.Generator, batch_size: int) -> Batch:
        """Draw inputs (B, T) and labels (B, T)."""
        data = torch.randint(1, self.alphabet + 1, (batch_size, self.n_data), generator=rng)
        inputs = torch.zeros(batch_size, self.length, dtype=torch.int64)
        inputs[:, : self.n_data] = data
        inputs[:, -self.n_data - 1] = self.alphabet + 1
        labels = torch.zeros_like(inputs)
        labels[:, -self.n_data :] = data
        return Batch(inputs=inputs, targets=labels)
