"""Sources with the answers that are to be written, split by a hash of the source.

B batch, T time, S symbols of an answer.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from tasks.data.hashing import digest_of, split_of
from tasks.data.ragged import Ragged
from tasks.task import SPLITS, UNSCORED, Batch, Split


@dataclass(frozen=True, eq=False)
class Pairs:
    """Sources and answers of a split, side by side."""

    sources: Ragged
    answers: Ragged  # each with its end symbol

    def __len__(self) -> int:
        return len(self.sources)

    def batch(self, rows: Tensor, length: int, n_symbols: int) -> Batch:
        """Pairs `rows` (B,): sources (B, T) and answers (B, S)."""
        inputs, lengths = self.sources.padded(rows, length, 0)
        targets, _ = self.answers.padded(rows, n_symbols, UNSCORED)
        return Batch(inputs=inputs, targets=targets, lengths=lengths)


def split_pairs(
    named: Iterable[tuple[str, Sequence[int] | bytes, Sequence[int]]],
) -> Mapping[Split, Pairs]:
    """Put triples of (text of the source, source, answer) into their splits.

    One source in sixteen is held out for val, and one for test, in an order that follows from their
    hashes: the first ones are a fair choice of all. Train keeps the order given.
    """
    found: dict[Split, list[tuple[bytes, Sequence[int] | bytes, Sequence[int]]]] = {
        split: [] for split in SPLITS
    }
    for text, source, answer in named:
        found[split_of(text)].append((digest_of(text), source, answer))
    for split in ("val", "test"):
        found[split].sort(key=lambda entry: entry[0])  # stable: answers keep their order
    return {
        split: Pairs(
            Ragged.of(source for _, source, _ in rows),
            Ragged.of(answer for _, _, answer in rows),
        )
        for split, rows in found.items()
    }
