"""The 8x8 digits of scikit-learn: 1,797 images of 13 writers, 17 grey levels, 10 classes.

Origin: the test part of "Optical Recognition of Handwritten Digits", Alpaydin and Kaynak 1998,
https://archive.ics.uci.edu/dataset/80. Licence: CC BY 4.0 (UCI); scikit-learn is BSD-3-Clause.
"""

from __future__ import annotations

from functools import cache

from torch import Tensor

from tasks.data.packages import PackageFile, labelled_images

FILE = PackageFile(
    distribution="scikit-learn",
    package="sklearn",
    path="datasets/data/digits.csv.gz",
    sha256="09f66e6debdee2cd2b5ae59e0d6abbb73fc2b0e0185d2e1957e9ebb51e23aa22",
)


@cache
def read(task: str) -> tuple[Tensor, Tensor]:
    """Images (1797, 8, 8) in 0..1 and labels (1797,), in the order of the file."""
    return labelled_images(FILE.read(task), side=8, brightest=16)
