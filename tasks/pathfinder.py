"""Pathfinder: are the two marked points the ends of one dashed curve? Read pixel by pixel.

Linsley et al. 2018, https://arxiv.org/abs/1805.08315; as sequences Tay et al. 2021 (Long Range
Arena), https://arxiv.org/abs/2011.04006, section 2.2.5. How images are drawn: tasks/drawing.

B batch, T time.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import ClassVar, Literal, get_args

import numpy as np
import torch
from torch import Tensor

from tasks.data import lra
from tasks.data.cache import cache_folder
from tasks.data.records import Records
from tasks.drawing.contours import draw_picture
from tasks.drawing.segments import LOOKS, segments
from tasks.scoring import Classification
from tasks.task import (
    Batch,
    Kind,
    Reals,
    Split,
    Tokens,
    check_indices,
    check_integer,
    generator,
)

Source = Literal["generated", "released"]


@dataclass(frozen=True, kw_only=True)
class Pathfinder(Classification):
    """Whether two marked points are joined by a dashed curve, read pixel by pixel.

    -1 -1 .2 ... -1 (1,024 grey values in -1..1) -> 1. Among shorter curves lie two of
    `contour_length` dashes; the markers are at the two ends of one, or at one end of each. Chance
    is 0.5.

    Generated images are those of the published process (see tasks/drawing/contours.py), drawn when
    they are first read and kept in the cache folder, below `pathfinder`. They are one data set, as
    the released images are: the same for every seed. Long Range Arena's hard level has a
    contour_length of 14, and 160,000, 20,000 and 20,000 images. The released images are split in
    their order, 80, 10 and 10 parts in a hundred. What the release did for the contour lengths 6
    and 9 is not stated; here all else is as for 14, and distractors have a third of the dashes.
    """

    kind: ClassVar[Kind] = "per_sequence"
    pool: ClassVar[Literal["last", "mean"]] = "mean"
    version: ClassVar[int] = 1
    """Raised whenever the same (split, index) would give another image."""

    length: int = 1024  # pixels: 1024, 4096, 16384 or 65536
    contour_length: int = 14  # dashes of the two long curves: 6, 9 or 14
    as_tokens: bool = False  # grey values are symbols 0..255, as first published
    source: Source = "generated"
    n_train: int = 160_000  # generated images; the released ones have their own number
    n_val: int = 1024
    n_test: int = 2048

    def __post_init__(self) -> None:
        """Refuse fields that name no task."""
        super().__post_init__()
        if self.length not in (lengths := [side**2 for side in LOOKS]):
            raise ValueError(f"length must be one of {lengths}, not {self.length}")
        if self.contour_length not in (choices := list(lra.CONTOUR_FOLDERS)):
            raise ValueError(f"contour_length must be one of {choices}, not {self.contour_length}")
        if not isinstance(self.as_tokens, bool):
            raise ValueError(f"as_tokens must be true or false, not {self.as_tokens!r}")
        if self.source not in (sources := get_args(Source)):
            raise ValueError(f"source must be one of {sources}, not {self.source!r}")
        for name in ("n_train", "n_val", "n_test"):
            check_integer(name, getattr(self, name), at_least=1)

    @property
    def data_sets(self) -> tuple[str, ...]:
        """The released files, if they are asked for."""
        return ("lra",) if self.source == "released" else ()

    @property
    def side(self) -> int:
        """Pixels of a side."""
        return math.isqrt(self.length)

    @property
    def inputs(self) -> Tokens | Reals:
        """Grey values, as they are or as numbers in -1..1."""
        return Tokens(256) if self.as_tokens else Reals(1)

    @property
    def n_outputs(self) -> int:
        """Not joined, joined."""
        return 2

    def size(self, split: Split) -> int:
        """Images of a split."""
        if self.source == "generated":
            return {"train": self.n_train, "val": self.n_val, "test": self.n_test}[split]
        return len(self._released_rows(split))

    def examples(self, split: Split, seed: int, indices: Tensor) -> Batch:
        """The images `indices` (B,) of a split, whatever the seed, and whether joined (B,)."""
        check_indices(indices, self.size(split))
        if self.source == "generated":
            records = self._records(split)
            found = [records.get(index, partial(self.draw, split)) for index in indices.tolist()]
            table = np.frombuffer(b"".join(found), dtype=np.uint8).reshape(len(found), -1)
            pixels = torch.from_numpy(table[:, 1:].copy())  # (B, T)
            labels = torch.from_numpy(table[:, 0].astype(np.int64))
        else:
            listed = lra.images(self.side, self.contour_length)
            rows = [self._released_rows(split)[index] for index in indices.tolist()]
            read = [lra.read_png(listed.folder / listed.paths[row], self.side) for row in rows]
            pixels = torch.from_numpy(np.stack(read)).flatten(1)  # (B, T)
            labels = listed.labels[rows]
        inputs = pixels.long() if self.as_tokens else pixels[..., None] / 127.5 - 1
        return Batch(inputs=inputs, targets=labels)

    def fingerprint(self) -> str:
        """The generator's version and its segments, which Pillow draws; or the released list."""
        if self.source == "released":
            return lra.images_sha256(self.side, self.contour_length)
        return f"Pathfinder-v{self.version}-{_segments_sha256(self.side)}"

    def _records(self, split: Split) -> Records:
        name = f"{split}-{self.side}-{self.contour_length}.records"
        path = cache_folder() / "pathfinder" / self.fingerprint() / name
        return _records(path, 1 + self.length)

    def _released_rows(self, split: Split) -> range:
        n = len(lra.images(self.side, self.contour_length).paths)
        first, last = n * 8 // 10, n * 9 // 10
        return {"train": range(first), "val": range(first, last), "test": range(last, n)}[split]

    def draw(self, split: Split, index: int) -> bytes:
        """Image `index` of a split: its label in a byte, then its pixels."""
        rng = generator("pathfinder", split, self.side, self.contour_length, index)
        picture = draw_picture(rng, self.side, self.contour_length)
        return bytes([picture.label]) + picture.pixels.tobytes()


@lru_cache(maxsize=64)
def _records(path: Path, size: int) -> Records:
    return Records(path, size)


@lru_cache(maxsize=len(LOOKS))
def _segments_sha256(side: int) -> str:
    """A hash of all lines and masks of a size."""
    digest = hashlib.sha256()
    for margin in LOOKS[side].margins:
        made = segments(side, margin)
        for tiles in (made.lines, made.masks):
            digest.update(tiles.places.tobytes() + tiles.values.tobytes())
    return digest.hexdigest()[:16]
