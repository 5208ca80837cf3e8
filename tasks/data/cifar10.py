"""The binary files of CIFAR-10: records of a label byte and 3 x 32 x 32 bytes, red, green, blue.

Krizhevsky 2009, https://www.cs.toronto.edu/~kriz/cifar.html: cifar-10-batches-bin/data_batch_1.bin
to data_batch_5.bin and test_batch.bin, 10,000 records each.
"""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from tasks.data.cache import set_folder
from tasks.data.errors import DataError

SIDE = 32
RECORD_BYTES = 1 + 3 * SIDE * SIDE
FILE_IMAGES = 10_000
FILES = {
    "train": tuple(f"data_batch_{number}.bin" for number in range(1, 6)),
    "test": ("test_batch.bin",),
}


def read_batch(path: Path) -> tuple[Tensor, Tensor]:
    """Images (N, 3, 32, 32) uint8 and labels (N,) of a file."""
    content = np.fromfile(path, dtype=np.uint8)
    if not len(content) or len(content) % RECORD_BYTES:
        raise DataError(f"{path} has {len(content)} bytes, not records of {RECORD_BYTES}")
    records = torch.from_numpy(content.reshape(-1, RECORD_BYTES))
    labels = records[:, 0].long()
    if (highest := int(labels.max())) > 9:
        raise DataError(f"{path} has the label {highest}; labels are 0 to 9")
    return records[:, 1:].reshape(-1, 3, SIDE, SIDE), labels


@cache
def images(split: Literal["train", "test"]) -> tuple[Tensor, Tensor]:
    """Images and labels of a published split, in the order of the files."""
    root = set_folder("cifar10") / "cifar-10-batches-bin"
    read = [read_batch(root / name) for name in FILES[split]]
    for name, (_, labels) in zip(FILES[split], read, strict=True):
        if len(labels) != FILE_IMAGES:
            raise DataError(f"{root / name} has {len(labels)} images; {FILE_IMAGES} are published")
    return torch.cat([pixels for pixels, _ in read]), torch.cat([labels for _, labels in read])


@cache
def sha256() -> str:
    """A hash of all images and labels."""
    digest = hashlib.sha256()
    for pixels, labels in (images("train"), images("test")):
        digest.update(pixels.numpy().tobytes() + labels.numpy().tobytes())
    return digest.hexdigest()


def grey(pixels: Tensor) -> Tensor:
    """Images (B, 3, S, S) in grey, (B, S, S) uint8: 0.2989 R + 0.587 G + 0.114 B, cut to integers.

    The weights of torchvision's and TensorFlow's rgb_to_grayscale, after ITU-R BT.601.
    """
    weights = torch.tensor([0.2989, 0.587, 0.114])
    return (pixels.float() * weights[:, None, None]).sum(1).to(torch.uint8)
