"""What tasks that read an image pixel by pixel share: resampling, and a fixed split.

S the side of an image.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cache
from typing import ClassVar, Literal

import torch
from torch import Tensor
from torch.nn import functional

from tasks.scoring import Classification
from tasks.task import SPLITS, Batch, Kind, Reals, Split, check_indices


@dataclass(frozen=True, kw_only=True)
class Pixels(Classification):
    """An image read row by row, one grey value per step; `length` is its pixels.

    Grey values are standardised, as is usual for these images: with raw values in 0..1 the common
    part of all inputs hides what differs behind a LayerNorm.

    Lengths other than the original are the mean of square blocks of pixels, or each pixel repeated
    in a square block. The outputs are averaged over time, as S4 does (Gu et al. 2022,
    https://arxiv.org/abs/2111.00396): the last pixels are blank border in nearly every image, so
    the last output alone would test memory across the border rather than what was read.

    Each split has the same number of images of every class, and is the same for all seeds: within
    a class, images are ordered by the sha256 of their pixels; the first are test, then val, then
    train.
    """

    kind: ClassVar[Kind] = "per_sequence"
    pool: ClassVar[Literal["last", "mean"]] = "mean"
    sides: ClassVar[tuple[int, ...]]
    """The sides to which images can be resampled without cutting a pixel."""
    mean: ClassVar[float]
    """Of all grey values in 0..1 at the original size; subtracted."""
    deviation: ClassVar[float]
    """Their standard deviation; divided by."""
    n_images: ClassVar[int]
    n_held_out_per_class: ClassVar[int]
    """Images of each class in val, and as many again in test."""

    def __post_init__(self) -> None:
        """Refuse fields that name no task."""
        super().__post_init__()
        if self.length not in (lengths := [side**2 for side in self.sides]):
            raise ValueError(f"length must be one of {lengths}, not {self.length!r}")

    @property
    def inputs(self) -> Reals:
        """Grey values."""
        return Reals(1)

    @property
    def n_outputs(self) -> int:
        """The digits."""
        return 10

    def read(self) -> tuple[Tensor, Tensor]:
        """Images (N, S, S) in 0..1 and labels (N,) at the original size; cached by the source."""
        raise NotImplementedError

    def size(self, split: Split) -> int:
        """Images of a split."""
        held_out = self.n_held_out_per_class * self.n_outputs
        return self.n_images - 2 * held_out if split == "train" else held_out

    def examples(self, split: Split, seed: int, indices: Tensor) -> Batch:
        """The images `indices` (B,) of a split, whatever the seed, as (B, T, 1) and digits (B,)."""
        check_indices(indices, self.size(split))
        images, labels = self.read()
        rows = _rows(self)[split][indices]
        resampled = resample(images[rows], round(self.length**0.5))  # (B, S, S)
        inputs = (resampled.flatten(1)[..., None] - self.mean) / self.deviation  # (B, T, 1)
        return Batch(inputs=inputs, targets=labels[rows])


def resample(images: Tensor, side: int) -> Tensor:
    """Images (B, S, S) as (B, side, side), by means of blocks or by repeating pixels."""
    given = images.shape[-1]
    if side <= given:
        return functional.avg_pool2d(images, given // side)
    return images.repeat_interleave(side // given, 1).repeat_interleave(side // given, 2)


@cache
def _rows(task: Pixels) -> dict[Split, Tensor]:
    """The rows of each split in the source, the same at every length."""
    images, labels = task.read()
    digests = [hashlib.sha256(image.numpy()).digest() for image in images]
    rows: dict[Split, list[int]] = {split: [] for split in SPLITS}
    n = task.n_held_out_per_class
    for label in range(task.n_outputs):
        of_label = sorted((labels == label).nonzero().flatten().tolist(), key=digests.__getitem__)
        rows["test"] += of_label[:n]
        rows["val"] += of_label[n : 2 * n]
        rows["train"] += of_label[2 * n :]
    # Mixed by the other end of the digest, so that any run of neighbours holds all classes: by the
    # front end, where a class begins depends on where its last held-out image was.
    return {
        split: torch.tensor(sorted(found, key=lambda row: digests[row][::-1]))
        for split, found in rows.items()
    }
