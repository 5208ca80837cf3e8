"""Multi-query associative recall: given key-value pairs, answer each key that comes again.

Arora et al. 2023 (Zoology), https://arxiv.org/abs/2312.04927, section 3 and
HazyResearch/zoology zoology/data/multiquery_ar.py, followed exactly. The newer recipe, of Arora et
al. 2024 (Based), https://arxiv.org/abs/2402.18668, trains on a mix of (T, N) = (64, 4), (128, 8),
(256, 16), (256, 32) and (256, 64). The in-context recall of MAD, Poli et al. 2024,
https://arxiv.org/abs/2403.17844, is another task of this name: pairs with repeated keys all along
the sequence, 16 symbols, length 128, each repetition a query.

V vocabulary, N pairs, T length.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from tasks.scoring import Classification
from tasks.task import UNSCORED, Batch, GeneratedTask, Kind, Metric, Tokens, check_integer


@dataclass(frozen=True, kw_only=True)
class Mqar(Classification, GeneratedTask):
    """Multi-query associative recall: key-value pairs, then queries among distractors.

    A 4 B 3 B 0 A 0 -> 3 at the second B and 4 at the second A, unscored elsewhere. Keys are
    1..V/2-1 and values V/2..V-1, no two alike in an example. After the pairs come (T-2N)/2 slots of
    two tokens; a query stands first in its slot, and slots close to the pairs are likelier. The
    paper's figure 2 has (T, N) = (64, 4), (128, 8), (256, 16), (512, 64). Chance is one of the
    V/2 values.
    """

    kind: ClassVar[Kind] = "per_step"

    length: int = 64  # tokens, even, at least 4 * n_pairs and less than the vocabulary
    n_pairs: int = 4
    vocabulary: int = 8192  # symbols
    power_a: float = 0.01  # slot i has weight i^(a-1): 1 is uniform
    random_non_queries: bool = True  # what is neither pair nor query is random; False: it is 0

    def __post_init__(self) -> None:
        """Refuse fields that name no task."""
        super().__post_init__()
        check_integer("n_pairs", self.n_pairs, at_least=1)
        check_integer("vocabulary", self.vocabulary, at_least=4)
        if self.length % 2:
            raise ValueError(f"length must be even, not {self.length}")
        if self.length < 4 * self.n_pairs:
            raise ValueError(
                f"length must be at least 4 * n_pairs = {4 * self.n_pairs}, not {self.length}"
            )
        if self.vocabulary <= self.length:
            raise ValueError(
                f"vocabulary must be larger than length = {self.length}, not {self.vocabulary}"
            )
        if isinstance(self.power_a, bool) or not isinstance(self.power_a, int | float):
            raise ValueError(f"power_a must be a number, not {self.power_a!r}")
        if not 0 < self.power_a <= 1:
            raise ValueError(f"power_a must be above 0 and at most 1, not {self.power_a!r}")
        if not isinstance(self.random_non_queries, bool):
            raise ValueError(
                f"random_non_queries must be true or false, not {self.random_non_queries!r}"
            )

    @property
    def inputs(self) -> Tokens:
        """Keys, values and 0."""
        return Tokens(self.vocabulary)

    @property
    def n_outputs(self) -> int:
        """Every symbol, as published, although only values are answers."""
        return self.vocabulary

    @property
    def chance(self) -> float:
        """One of the values."""
        return 1 / (self.vocabulary - self.vocabulary // 2)

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """Accuracy, beside that of knowing which values there are but not whose."""
        (accuracy,) = super().metrics
        rule = "any value of the sequence"
        return (replace(accuracy, baseline=1 / self.n_pairs, baseline_rule=rule),)

    def sample(self, rng: torch.Generator, batch_size: int) -> Batch:
        """Draw inputs (B, T) and labels (B, T), scored at the N queries."""
        B, T, N, V = batch_size, self.length, self.n_pairs, self.vocabulary
        first_value = V // 2
        keys = 1 + _distinct(torch.ones(first_value - 1, dtype=torch.float32), B, N, rng)  # (B, N)
        values = first_value + _distinct(
            torch.ones(V - first_value, dtype=torch.float32), B, N, rng
        )  # (B, N)
        slots = torch.arange(1, T // 2 - N + 1, dtype=torch.float64)
        queries = 2 * N + 2 * _distinct(slots ** (self.power_a - 1), B, N, rng)  # (B, N)

        inputs = torch.zeros(B, T, dtype=torch.int64)
        inputs[:, : 2 * N] = torch.stack([keys, values], dim=2).flatten(1)  # (B, 2N)
        inputs.scatter_(1, queries, keys)
        if self.random_non_queries:
            inputs = torch.where(inputs == 0, torch.randint(V, (B, T), generator=rng), inputs)
        labels = torch.full((B, T), UNSCORED).scatter_(1, queries, values)
        return Batch(inputs=inputs, targets=labels)


def _distinct(weights: Tensor, batch_size: int, n: int, rng: torch.Generator) -> Tensor:
    """Draw n of the weighted places one after another, without replacement: (B, n).

    The n earliest of independent exponential arrivals at these rates, in order of arrival, have
    the law of successive draws (Efraimidis and Spirakis 2006), and come without a loop.
    """
    arrivals = torch.rand(batch_size, len(weights), generator=rng, dtype=weights.dtype)
    return arrivals.log_().div_(weights).topk(n, dim=1).indices
