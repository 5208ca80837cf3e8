"""Digits: scikit-learn's 8x8 handwritten digits, read pixel by pixel. Real data in a second."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from tasks.data import sklearn_digits
from tasks.pixels import Pixels


@dataclass(frozen=True, kw_only=True)
class Digits(Pixels):
    """Handwritten 8x8 digits of scikit-learn, read pixel by pixel.

    0 0 .31 .81 ... (64 grey values, then standardised) -> 0. The project's own split, 1,077 train,
    360 val and 360 test: not to be compared with published numbers. Chance is 0.1.
    """

    data_sets: ClassVar[tuple[str, ...]] = ("sklearn_digits",)
    sides: ClassVar[tuple[int, ...]] = (4, 8, 16, 32)
    mean: ClassVar[float] = 0.3053
    deviation: ClassVar[float] = 0.3761
    n_images: ClassVar[int] = 1797
    n_held_out_per_class: ClassVar[int] = 36

    length: int = 64  # pixels: 16, 64, 256 or 1024

    def read(self) -> tuple[Tensor, Tensor]:
        """Images (1797, 8, 8) and labels (1797,)."""
        return sklearn_digits.read("digits")

    def fingerprint(self) -> str:
        """The sha256 of the file."""
        return sklearn_digits.FILE.sha256
