"""ListOps: the value of a nested list operation. Long Range Arena's first task.

Nangia and Bowman 2018, https://arxiv.org/abs/1804.06028; with long expressions Tay et al. 2021,
https://arxiv.org/abs/2011.04006, section 2.2.1, and google-research/long-range-arena
lra_benchmarks/data/listops.py, whose process is followed exactly, many trees at a time.

B batch, T time.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

import torch
from torch import Tensor

from tasks.data import lra
from tasks.data.expressions import OPERATORS, SYMBOLS, Expressions, draw_expressions
from tasks.scoring import Classification
from tasks.task import (
    Batch,
    GeneratedTask,
    Kind,
    Metric,
    Split,
    Tokens,
    check_indices,
    check_integer,
    generator,
)

Source = Literal["generated", "released"]
SHORTEST = 16
"""Tokens. Shorter expressions come again, so that splits would overlap; of longer ones, two draws
of a million are alike with a probability below 1e-4."""
N_MEASURED = 4096
"""Expressions from which the trivial scores are taken where the options are not the published."""


@dataclass(frozen=True, kw_only=True)
class Listops(Classification, GeneratedTask):
    """The value, 0 to 9, of nested operations on lists of digits.

    [MAX 2 9 [MIN 4 7 ] 0 ] -> 9. MED is the median rounded down and SM the sum modulo 10. Every
    argument is an operation with probability 1/4 while `max_depth` allows. Expressions have more
    than `longer_than` and fewer than `length` tokens (published: 500 and 2000) and are padded.
    Round brackets are left out, as published. Chance is the most frequent value, 0.175; knowing the
    outermost operator alone gives 0.37, which is what transformers reach in the published table.

    The released files have 96,000, 2,000 and 2,000 expressions; of those, longer ones than
    `length` are cut as in the published readers, and `longer_than` and the rest are not asked.
    """

    kind: ClassVar[Kind] = "per_sequence"

    length: int = 2000  # tokens; an expression has fewer
    longer_than: int | None = None  # tokens; None: a quarter of the length
    max_depth: int = 10  # operations inside each other, and the digits within
    max_args: int = 10  # of one operation; at least 2
    source: Source = "generated"

    def __post_init__(self) -> None:
        """Refuse fields that name no task."""
        super().__post_init__()
        check_integer("length", self.length, at_least=SHORTEST + 2)
        check_integer("max_depth", self.max_depth, at_least=2)
        check_integer("max_args", self.max_args, at_least=2)
        if self.longer_than is not None:
            check_integer("longer_than", self.longer_than, at_least=SHORTEST)
        if self.shortest >= self.length:
            raise ValueError(
                f"longer_than must be at most length - 2 = {self.length - 2}, "
                f"not {self.longer_than}"
            )
        if self.source not in (choices := get_args(Source)):
            raise ValueError(f"source must be one of {choices}, not {self.source!r}")
        if self.longest_possible < self.shortest:
            raise ValueError(
                f"max_depth {self.max_depth} and max_args {self.max_args} give at most "
                f"{self.longest_possible} tokens, and more than {self.shortest - 1} are asked for"
            )

    @property
    def data_sets(self) -> tuple[str, ...]:
        """The released files, if they are asked for."""
        return ("lra",) if self.source == "released" else ()

    @property
    def shortest(self) -> int:
        """Tokens of the shortest expression."""
        if self.longer_than is not None:
            return self.longer_than + 1
        return max(SHORTEST, self.length // 4) + 1

    @property
    def longest_possible(self) -> int:
        """Tokens of the largest tree."""
        tokens = 1
        for _ in range(self.max_depth - 1):
            tokens = min(2 + self.max_args * tokens, self.length)
        return tokens

    @property
    def inputs(self) -> Tokens:
        """Padding, ten digits, four operators and the closing bracket."""
        return Tokens(len(SYMBOLS))

    @property
    def n_outputs(self) -> int:
        """The digits."""
        return 10

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """Accuracy, with what needs no nesting."""
        chance, baseline = self._trivial_scores()
        rule = "the most frequent value under the outermost operator"
        return (Metric("accuracy", "fraction", True, chance, baseline, rule),)

    def size(self, split: Split) -> int | None:
        """Expressions of a split; None: endless."""
        if self.source == "released":
            return lra.LISTOPS_SIZES[split]
        return super().size(split)

    def examples(self, split: Split, seed: int, indices: Tensor) -> Batch:
        """The expressions `indices` (B,) as symbols (B, T) and their values (B,)."""
        if self.source == "generated":
            return super().examples(split, seed, indices)
        check_indices(indices, self.size(split))
        return _batch(lra.listops(split), indices, self.length)

    def sample(self, rng: torch.Generator, batch_size: int) -> Batch:
        """Draw expressions (B, T) and their values (B,)."""
        drawn = draw_expressions(
            rng, batch_size, self.shortest, self.length - 1, self.max_depth, self.max_args
        )
        return _batch(drawn, torch.arange(batch_size), self.length)

    def fingerprint(self) -> str:
        """The generator's name and version, or the sha256 of the released expressions."""
        return lra.listops_sha256() if self.source == "released" else super().fingerprint()

    def _trivial_scores(self) -> tuple[float, float]:
        """Accuracy of the best constant, and of the best answer to the outermost operator."""
        window = (self.shortest, self.length, self.max_depth, self.max_args)
        if self.source == "released" or window == (501, 2000, 10, 10):
            return 0.175, 0.373
        if window not in _TRIVIAL_SCORES:
            batch = self.sample(generator("listops rules", *window), N_MEASURED)
            first = SYMBOLS.index(OPERATORS[0])
            table = torch.zeros(len(OPERATORS), 10)
            table.index_put_(
                (batch.inputs[:, 0] - first, batch.targets), torch.tensor(1.0), accumulate=True
            )
            constant, operator = table.sum(0).max().item(), table.amax(1).sum().item()
            _TRIVIAL_SCORES[window] = (constant / N_MEASURED, operator / N_MEASURED)
        return _TRIVIAL_SCORES[window]


_TRIVIAL_SCORES: dict[tuple[int, ...], tuple[float, float]] = {}


def _batch(expressions: Expressions, rows: Tensor, length: int) -> Batch:
    """Rows (B,) of expressions, padded or cut to `length`."""
    inputs, lengths = expressions.texts.padded(rows, length)
    return Batch(inputs=inputs, targets=expressions.values[rows], lengths=lengths)
