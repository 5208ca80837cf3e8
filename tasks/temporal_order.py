"""Temporal order: which of two marks came first and which later, among distractors.

Hochreiter and Schmidhuber 1997, https://doi.org/10.1162/neco.1997.9.8.1735, experiment 6, in the
form of Pascanu et al. 2013, https://arxiv.org/abs/1211.5063 (pascanur/trainingRNNs tempOrder.py and
tempOrder3bit.py), with lengths of 50 to 200.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import torch

from tasks.scoring import Classification
from tasks.task import Batch, GeneratedTask, Kind, Metric, Tokens, check_integer

WINDOWS = {2: (1, 5), 3: (1, 3, 6)}
"""By the number of marks: the tenth of the sequence where each stands."""
N_DISTRACTORS = 4


@dataclass(frozen=True, kw_only=True)
class TemporalOrder(Classification, GeneratedTask):
    """The kinds of two or three marks, in their order.

    c B d d c f A e e d -> 1, which is B then A: a mark is A (0) or B (1), and the class is the
    first + 2 * the second (+ 4 * the third). One stands in the second tenth of the sequence, one in
    the sixth (of three marks: second, fourth and seventh). Chance is one class of 4, or of 8.
    """

    kind: ClassVar[Kind] = "per_sequence"

    length: int = 100  # tokens
    n_marks: int = 2  # or 3

    def __post_init__(self) -> None:
        """Refuse fields that name no task."""
        super().__post_init__()
        check_integer("length", self.length, at_least=10)
        if self.n_marks not in WINDOWS:
            raise ValueError(f"n_marks must be 2 or 3, not {self.n_marks!r}")

    @property
    def inputs(self) -> Tokens:
        """Two marks and four distractors."""
        return Tokens(2 + N_DISTRACTORS)

    @property
    def n_outputs(self) -> int:
        """Orders of marks."""
        return int(2**self.n_marks)

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """Accuracy, beside that of forgetting all but the last mark."""
        (accuracy,) = super().metrics
        rule = "the last mark, and a guess at those before it"
        return (replace(accuracy, baseline=2 * self.chance, baseline_rule=rule),)

    def sample(self, rng: torch.Generator, batch_size: int) -> Batch:
        """Draw inputs (B, T) and classes (B,)."""
        B, n = batch_size, self.n_marks
        inputs = torch.randint(2, 2 + N_DISTRACTORS, (B, self.length), generator=rng)
        marks = torch.randint(2, (B, n), generator=rng)
        starts = torch.tensor([self.length * tenth // 10 for tenth in WINDOWS[n]])
        places = starts + torch.randint(self.length // 10, (B, n), generator=rng)  # (B, n)
        inputs.scatter_(1, places, marks)
        return Batch(inputs=inputs, targets=(marks * 2 ** torch.arange(n)).sum(1))
