"""Retrieval: does one paper cite the other? Two documents of bytes, of the ACL Anthology Network.

Radev et al. 2013; as a pair of sequences Tay et al. 2021 (Long Range Arena),
https://arxiv.org/abs/2011.04006, section 2.2.3, and google-research/long-range-arena
lra_benchmarks/matching/input_pipeline.py.

B batch, T time.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor

from tasks.data import lra
from tasks.data.documents import BYTE_SYMBOLS
from tasks.scoring import Classification
from tasks.task import Batch, Kind, Split, Tokens, check_indices


@dataclass(frozen=True, kw_only=True)
class Retrieval(Classification):
    """Whether of two papers one cites the other, both read as bytes.

    The first `length` bytes of each (published: 4000) -> 1 or 0. Byte b is symbol b + 1, and 0 is
    padding. The splits are those of the released files. Chance is 0.5; pairs of both answers are
    about equally many.
    """

    kind: ClassVar[Kind] = "pair"
    pool: ClassVar[Literal["last", "mean"]] = "mean"
    data_sets: ClassVar[tuple[str, ...]] = ("lra",)

    length: int = 4000  # bytes of each document

    @property
    def inputs(self) -> Tokens:
        """Padding and bytes."""
        return Tokens(BYTE_SYMBOLS)

    @property
    def n_outputs(self) -> int:
        """No citation, citation."""
        return 2

    def size(self, split: Split) -> int:
        """Pairs of a split."""
        return len(lra.pairs(split, self.length).labels)

    def examples(self, split: Split, seed: int, indices: Tensor) -> Batch:
        """The pairs `indices` (B,) of a split, whatever the seed, as (B, 2, T) and labels (B,)."""
        pairs = lra.pairs(split, self.length)
        check_indices(indices, len(pairs.labels))
        members = pairs.members[indices].flatten()  # (2B,)
        inputs, lengths = pairs.documents.padded(members, self.length, shift=1)
        return Batch(
            inputs=inputs.unflatten(0, (-1, 2)),  # (B, 2, T)
            targets=pairs.labels[indices],
            lengths=lengths.unflatten(0, (-1, 2)),  # (B, 2)
        )

    def fingerprint(self) -> str:
        """The sha256 of the pairs, as far as they are read."""
        return lra.pairs_sha256(self.length)
