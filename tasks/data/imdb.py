"""The IMDB film reviews as they are unpacked: one file per review, a folder per split and class.

Maas et al. 2011, https://aclanthology.org/P11-1015. The paths are
aclImdb/{train,test}/{neg,pos}/<id>_<stars>.txt.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from tasks.data.cache import set_folder
from tasks.data.documents import Documents
from tasks.data.errors import DataError

CLASSES = ("neg", "pos")
N_REVIEWS = 25_000
"""Of each of the two published splits."""


@dataclass(frozen=True)
class Reviews:
    """Texts, labels (N,) 0 or 1, and the sha256 of each text, in the order of these."""

    texts: Documents
    labels: Tensor
    digests: tuple[bytes, ...]


def read_reviews(root: Path, split: Literal["train", "test"]) -> Reviews:
    """Read a published split of the folder aclImdb.

    The order is that of the sha256 of the texts, so that any run of neighbours holds both classes
    and the same text twice is side by side.
    """
    found = []
    for label, name in enumerate(CLASSES):
        files = sorted((root / split / name).glob("*.txt"))
        if not files:
            raise DataError(f"{root / split / name} has no reviews, *.txt")
        for file in files:
            text = file.read_bytes()
            if not text:
                raise DataError(f"{file} is empty")
            found.append((hashlib.sha256(text).digest(), label, text))
    found.sort()
    return Reviews(
        Documents.of(text for *_, text in found),
        torch.tensor([label for _, label, _ in found]),
        tuple(digest for digest, *_ in found),
    )


@cache
def reviews(split: Literal["train", "test"]) -> Reviews:
    """A published split of the data set `imdb`."""
    root = set_folder("imdb") / "aclImdb"
    read = read_reviews(root, split)
    if len(read.labels) != N_REVIEWS:
        raise DataError(f"{root / split} has {len(read.labels)} reviews; {N_REVIEWS} are published")
    return read


@cache
def sha256() -> str:
    """A hash of the labelled reviews."""
    digest = hashlib.sha256()
    for read in (reviews("train"), reviews("test")):
        digest.update(b"".join(read.digests) + read.labels.numpy().tobytes())
    return digest.hexdigest()
