"""Permuted sequential MNIST: Le et al. 2015, https://arxiv.org/abs/1504.00941, section 4.2.

Every paper drew a permutation of its own. The two offered here are those of the public code of S4,
https://github.com/state-spaces/s4: `bit_reversal` (src/utils/permutations.py, its default) and
`random` (src/dataloaders/basic.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Literal, TypeAlias, get_args

import numpy as np
import torch
from torch import Tensor

from tasks.smnist import Smnist
from tasks.task import Batch, Split

Permutation: TypeAlias = Literal["bit_reversal", "random"]
RANDOM_SEED = 92916


@dataclass(frozen=True, kw_only=True)
class Psmnist(Smnist):
    """MNIST read pixel by pixel in a fixed scrambled order.

    Step t reads pixel p(t) of those that `smnist` reads, with the same splits. `bit_reversal`: the
    numbers below the next power of two with their bits reversed, those that are no pixel left out,
    0 512 256 768 128 ... of 784. `random`: drawn once by numpy's RandomState(92916), 319 576 323
    107 ... of 784. Chance is 0.1.
    """

    permutation: Permutation = "bit_reversal"

    def __post_init__(self) -> None:
        """Refuse fields that name no task."""
        super().__post_init__()
        if self.permutation not in (choices := get_args(Permutation)):
            raise ValueError(
                f"permutation must be one of {', '.join(choices)}, not {self.permutation!r}"
            )

    def examples(self, split: Split, seed: int, indices: Tensor) -> Batch:
        """The images `indices` (B,) of a split, whatever the seed, as (B, T, 1) and digits (B,)."""
        batch = super().examples(split, seed, indices)
        order = pixel_order(self.permutation, self.length)
        return Batch(inputs=batch.inputs[:, order], targets=batch.targets)


@cache
def pixel_order(permutation: Permutation, n_pixels: int) -> Tensor:
    """The pixel that each step reads (T,)."""
    if permutation == "random":
        return torch.from_numpy(np.random.RandomState(RANDOM_SEED).permutation(n_pixels))
    n_bits = (n_pixels - 1).bit_length()
    reversed_bits = (int(f"{number:0{n_bits}b}"[::-1], 2) for number in range(2**n_bits))
    return torch.tensor([number for number in reversed_bits if number < n_pixels])
