"""A table of labelled sequences, one a row: the CSV file of a user's own.

    label,0,1,2,3
    walking,0.1,-1.5,2e-3,4
    standing,1,1.25,,

The first line names the columns; the first of them is called `label`, the others as one likes. A
row is a label and the values of a sequence in the order of time. A shorter sequence leaves its last
cells empty. Every row has as many cells as the first line. Commas between cells, UTF-8.
"""

from __future__ import annotations

import csv
import hashlib
import math
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from tasks.data.errors import DataError
from tasks.data.own_files import Version


class Table(NamedTuple):
    """N sequences of up to M values."""

    classes: tuple[str, ...]  # in alphabetical order
    labels: Tensor  # (N,) int64, the place in `classes`
    values: Tensor  # (N, M) float32, 0 after the end
    lengths: Tensor  # (N,) int64
    sha256: str  # of the file


@lru_cache(maxsize=4)
def read(version: Version) -> Table:
    """Read a file.

    Raises:
        DataError: naming the line that is not as described above, or that there are no two labels.
    """
    path = version.path
    content = Path(path).read_bytes()
    try:
        lines = content.decode("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8: {error}") from None
    if not lines:
        raise DataError(f"{path} is empty")
    rows = csv.reader(lines, strict=True)
    header = next(rows)
    if header[:1] != ["label"] or len(header) < 2:
        raise DataError(
            f"{path}, line 1: columns must be 'label' and at least one of values, not {header[:2]}"
        )
    labels, sequences = [], []
    for line, cells in enumerate(rows, start=2):
        try:
            labels.append(_label(cells, len(header)))
            sequences.append(_values(cells[1:]))
        except ValueError as error:
            raise DataError(f"{path}, line {line}: {error}") from None
    classes = tuple(sorted(set(labels)))
    if len(classes) < 2:
        raise DataError(f"{path} has {len(classes)} labels, and two are needed: {classes}")
    values = np.zeros((len(sequences), len(header) - 1), dtype=np.float32)
    for row, sequence in enumerate(sequences):
        values[row, : len(sequence)] = sequence
    place = {name: number for number, name in enumerate(classes)}
    return Table(
        classes,
        # By numpy: models are sized on the meta device, where torch.tensor would keep nothing.
        torch.from_numpy(np.array([place[label] for label in labels])),
        torch.from_numpy(values),
        torch.from_numpy(np.array([len(sequence) for sequence in sequences])),
        hashlib.sha256(content).hexdigest(),
    )


def _label(cells: list[str], n_columns: int) -> str:
    if len(cells) != n_columns:
        raise ValueError(f"{len(cells)} cells, and the first line has {n_columns}")
    if not cells[0] or cells[0] != cells[0].strip():
        raise ValueError(f"the label is {cells[0]!r}: empty, or with spaces around it")
    return cells[0]


def _values(cells: list[str]) -> list[float]:
    n_values = max((place for place, cell in enumerate(cells, start=1) if cell), default=0)
    if n_values == 0:
        raise ValueError("no values")
    values = [float(cell) for cell in cells[:n_values]]  # an empty one between others is no number
    if not all(map(math.isfinite, values)):
        raise ValueError("a value is not finite")
    return values
