"""Sequential MNIST: Le et al. 2015, https://arxiv.org/abs/1504.00941, section 4.2.

All of MNIST, with the published test set. The 60,000 images of its training set come without a val
set: the first 5,000 are val here and 55,000 train.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from tasks.data import idx
from tasks.data.errors import DataError
from tasks.data.folders import fingerprint_of, folder_of
from tasks.pixels import Pixels, resample
from tasks.task import Batch, Split, check_indices, check_integer

N_TRAINING, N_VAL, N_TEST = 60000, 5000, 10000


@dataclass(frozen=True, kw_only=True)
class Smnist(Pixels):
    """MNIST read pixel by pixel: the published test set of 10,000.

    0 0 ... .99 .49 ... 0 (784 grey values, then standardised) -> 5. 55,000 train, 5,000 val and
    10,000 test. Chance is 0.1.
    """

    data_sets: ClassVar[tuple[str, ...]] = ("mnist",)
    sides: ClassVar[tuple[int, ...]] = (7, 14, 28, 56, 112)
    mean: ClassVar[float] = 0.1307
    deviation: ClassVar[float] = 0.3081
    n_images: ClassVar[int] = N_TRAINING

    length: int = 784  # pixels: 49, 196, 784, 3136 or 12544
    n_train: int = 55000  # the first images of the training set that are not val

    def __post_init__(self) -> None:
        """Refuse fields that name no task."""
        super().__post_init__()
        check_integer("n_train", self.n_train, at_least=1)
        if self.n_train > (most := N_TRAINING - N_VAL):
            raise ValueError(f"n_train must be at most {most}, not {self.n_train}")

    def size(self, split: Split) -> int:
        """Images of a split."""
        return {"train": self.n_train, "val": N_VAL, "test": N_TEST}[split]

    def read(self) -> tuple[Tensor, Tensor]:
        """The training set: images (60000, 28, 28) in 0..1 and labels (60000,)."""
        images, labels = _read("train", N_TRAINING)
        return images / 255, labels

    def examples(self, split: Split, seed: int, indices: Tensor) -> Batch:
        """The images `indices` (B,) of a split, whatever the seed, as (B, T, 1) and digits (B,)."""
        check_indices(indices, self.size(split))
        images, labels = _read("t10k", N_TEST) if split == "test" else _read("train", N_TRAINING)
        rows = indices + N_VAL if split == "train" else indices
        resampled = resample(images[rows] / 255, round(self.length**0.5))  # (B, S, S)
        inputs = (resampled.flatten(1)[..., None] - self.mean) / self.deviation  # (B, T, 1)
        return Batch(inputs=inputs, targets=labels[rows])

    def fingerprint(self) -> str:
        """A hash of the files' checksums."""
        return fingerprint_of("mnist")


def _read(name: str, n_images: int) -> tuple[Tensor, Tensor]:
    """The set whose files begin with `name`: bytes (N, 28, 28) and labels (N,)."""
    folder = folder_of("mnist")
    images = idx.read_images(folder / f"{name}-images-idx3-ubyte.gz")
    labels = idx.read_labels(folder / f"{name}-labels-idx1-ubyte.gz")
    if images.shape != (n_images, 28, 28) or labels.shape != (n_images,):
        raise DataError(
            f"{folder}: {name} has images {tuple(images.shape)} and {len(labels)} labels, "
            f"not {n_images} of 28 x 28"
        )
    if int(torch.max(labels)) > 9:
        raise DataError(f"{folder}: {name} has the label {int(torch.max(labels))}, no digit")
    return images, labels
