"""Docstring pairs: does this description belong to this code? Two documents, without a download.

In the manner of Long Range Arena's retrieval (Tay et al. 2021, https://arxiv.org/abs/2011.04006,
section 2.2.3), on functions of Python's standard library: tasks/data/docstrings.py.

B batch, T time, N functions of a split.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from tasks.data import docstrings
from tasks.data.documents import BYTE_SYMBOLS
from tasks.scoring import Classification
from tasks.task import Batch, Kind, Metric, Split, Tokens, check_indices, generator

COMMON_WORDS = "they share two words of four letters or more (at 512 bytes, with Python 3.11)"


@dataclass(frozen=True, kw_only=True)
class DocstringPairs(Classification):
    """Whether a docstring and a function body of Python's standard library belong together.

    "Return the larger of both." and "return a if a > b else b" -> 1. The first `length` bytes of
    each; byte b is symbol b + 1, and 0 is padding. The function's own name is taken out of both,
    and whole files are held out. Half of the pairs belong together; in the other half the body is
    that of another function of the split. Training pairs are drawn anew for every index. In val and
    test every docstring and every body comes twice, once with its own and once with another, so
    that neither alone says anything. Chance is 0.5; counting common words gives 0.73.
    """

    kind: ClassVar[Kind] = "pair"
    pool: ClassVar[Literal["last", "mean"]] = "mean"
    data_sets: ClassVar[tuple[str, ...]] = ("standard_library",)

    length: int = 512  # bytes of each document

    @property
    def inputs(self) -> Tokens:
        """Padding and bytes."""
        return Tokens(BYTE_SYMBOLS)

    @property
    def n_outputs(self) -> int:
        """Do not belong together, belong together."""
        return 2

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """Accuracy, with what common words give."""
        return (Metric("accuracy", "fraction", True, self.chance, 0.73, COMMON_WORDS),)

    def size(self, split: Split) -> int | None:
        """Pairs of a split; train has one for every index."""
        return None if split == "train" else 2 * len(self._functions(split).bodies)

    def examples(self, split: Split, seed: int, indices: Tensor) -> Batch:
        """The pairs `indices` (B,) of a split, as (B, 2, T), and whether they belong together."""
        functions = self._functions(split)
        n = len(functions.bodies)
        if split == "train":
            check_indices(indices, None)
            draws = torch.stack([_draw(seed, index) for index in indices.tolist()])  # (B, 3)
            labels = (draws[:, 0] < 0.5).long()
            docstring = (draws[:, 1] * n).long()
            apart = 1 + (draws[:, 2] * (n - 1)).long()
        else:
            check_indices(indices, 2 * n)
            labels, docstring, apart = indices % 2, indices // 2, torch.tensor(1)
        body = torch.where(labels == 1, docstring, (docstring + apart) % n)
        inputs, lengths = zip(
            functions.docstrings.padded(docstring, self.length, shift=1),
            functions.bodies.padded(body, self.length, shift=1),
            strict=True,
        )
        return Batch(
            inputs=torch.stack(inputs, dim=1),  # (B, 2, T)
            targets=labels,
            lengths=torch.stack(lengths, dim=1),  # (B, 2)
        )

    def fingerprint(self) -> str:
        """The sha256 of the functions, all splits."""
        return docstrings.sha256("docstring_pairs")

    def _functions(self, split: Split) -> docstrings.Functions:
        return docstrings.read("docstring_pairs")[split]


def _draw(seed: int, index: int) -> Tensor:
    """Three numbers in 0..1, a function of (seed, index) alone."""
    rng = generator("docstring_pairs", seed, index)
    return torch.rand(3, generator=rng, dtype=torch.float64)
