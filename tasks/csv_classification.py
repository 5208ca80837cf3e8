"""Classification of sequences of one's own: point at a CSV file. Nothing else is needed.

bench run -a gru -t csv_classification -l 128 --set task.path=my.csv
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar, Literal, NamedTuple

import torch
from torch import Tensor

from tasks.data.errors import DataError
from tasks.data.labelled_csv import Table, read
from tasks.data.own_files import version_of
from tasks.scoring import Classification
from tasks.task import SPLITS, Batch, Kind, Reals, Split, check_indices


@dataclass(frozen=True, kw_only=True)
class CsvClassification(Classification):
    """The label of a row of numbers in any CSV file, first column `label`, then values in time.

    walking,0.1,-1.5,2e-3 -> walking: the format is that of tasks/data/labelled_csv.py. Rows longer
    than the length lose their end; shorter ones are padded, and outputs averaged over what is real.
    Values are standardised by the mean and the deviation of train.

    The split is the same for all seeds: within a label, sequences are ordered by the sha256 of
    their values; the first are test, then val, then train, and rows with equal values stay
    together. Chance is the commonest label of train, scored on test. Paths count from the current
    folder, or from ~. The fingerprint is a hash of the content.
    """

    kind: ClassVar[Kind] = "per_sequence"
    pool: ClassVar[Literal["last", "mean"]] = "mean"

    length: int = 256  # values
    path: str
    val_share: float = 0.15  # of the different sequences of each label
    test_share: float = 0.15

    def __post_init__(self) -> None:
        """Refuse fields that name no task."""
        super().__post_init__()
        if not isinstance(self.path, str) or not self.path:
            raise ValueError(f"path must name a file, not {self.path!r}")
        for name in ("val_share", "test_share"):
            share = getattr(self, name)
            if not isinstance(share, int | float) or not 0 < share < 0.5:
                raise ValueError(f"{name} must be above 0 and below 0.5, not {share!r}")

    @property
    def inputs(self) -> Reals:
        """A value."""
        return Reals(1)

    @property
    def n_outputs(self) -> int:
        """The labels in the file."""
        return len(self._table().classes)

    @property
    def chance(self) -> float:
        """How much of test has the commonest label of train."""
        labels, rows = self._table().labels, self._parts().rows
        commonest = labels[rows["train"]].bincount().argmax()
        return float((labels[rows["test"]] == commonest).float().mean())

    def size(self, split: Split) -> int:
        """Rows of a split."""
        return len(self._parts().rows[split])

    def examples(self, split: Split, seed: int, indices: Tensor) -> Batch:
        """The rows `indices` (B,) of a split, whatever the seed, as (B, T, 1) and labels (B,)."""
        table, parts = self._table(), self._parts()
        check_indices(indices, self.size(split))
        rows = parts.rows[split][indices]
        read_values = table.values[rows, : self.length]  # (B, up to T)
        lengths = table.lengths[rows].clamp(max=self.length)
        inputs = torch.zeros(len(rows), self.length, 1)
        inputs[:, : read_values.shape[1], 0] = (read_values - parts.mean) / parts.deviation
        inputs[torch.arange(self.length) >= lengths[:, None]] = 0
        return Batch(inputs=inputs, targets=table.labels[rows], lengths=lengths)

    def fingerprint(self) -> str:
        """The sha256 of the file."""
        return self._table().sha256

    def _table(self) -> Table:
        """The file, read again if it has changed."""
        return read(version_of(self.path))

    def _parts(self) -> _Parts:
        return _split(self._table().sha256, self)


class _Parts(NamedTuple):
    """The rows of each split, and the mean and deviation of the values of train."""

    rows: dict[Split, Tensor]
    mean: float
    deviation: float


@lru_cache(maxsize=4)
def _split(sha256: str, task: CsvClassification) -> _Parts:
    """The parts of the file with this hash."""
    table = task._table()
    alike: dict[bytes, list[int]] = {}  # the rows of each different sequence, by its hash
    for row, n_values in enumerate(table.lengths.tolist()):
        digest = hashlib.sha256(table.values[row, :n_values].numpy().tobytes()).digest()
        alike.setdefault(digest, []).append(row)
    by_label: list[list[bytes]] = [[] for _ in table.classes]
    for digest in sorted(alike):
        by_label[int(table.labels[alike[digest][0]])].append(digest)
    found: dict[Split, list[bytes]] = {split: [] for split in SPLITS}
    for name, digests in zip(table.classes, by_label, strict=True):
        n_test = max(1, round(task.test_share * len(digests)))
        n_val = max(1, round(task.val_share * len(digests)))
        if n_test + n_val >= len(digests):
            raise DataError(
                f"{task.path}: the label {name!r} has {len(digests)} different sequences, too few "
                f"for {n_test} of test, {n_val} of val and one of train"
            )
        found["test"] += digests[:n_test]
        found["val"] += digests[n_test : n_test + n_val]
        found["train"] += digests[n_test + n_val :]
    # Mixed by the other end of the digest, so that any run of neighbours holds all labels.
    rows = {
        split: torch.tensor([row for digest in sorted(of, key=_reversed) for row in alike[digest]])
        for split, of in found.items()
    }
    columns = torch.arange(table.values.shape[1])
    real = columns < table.lengths[rows["train"], None]
    values = table.values[rows["train"]][real].double()
    return _Parts(rows, float(values.mean()), float(values.std(correction=0).clamp(min=1e-12)))


def _reversed(digest: bytes) -> bytes:
    return digest[::-1]
