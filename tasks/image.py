"""Image: what is on a photograph of CIFAR-10? Read pixel by pixel.

Krizhevsky 2009, https://www.cs.toronto.edu/~kriz/cifar.html; in grey as a sequence Tay et al. 2021
(Long Range Arena), https://arxiv.org/abs/2011.04006, section 2.2.4; in colour state-spaces/s4
src/dataloaders/basic.py, lines 97 to 118, whose means and deviations are used.

B batch, T time, S side.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor
from torch.nn import functional

from tasks.data import cifar10
from tasks.scoring import Classification
from tasks.task import Batch, Kind, Reals, Split, Tokens, check_indices

SIDES = (8, 16, 32)
N_TRAIN, N_HELD_OUT, N_TEST = 45_000, 5_000, 10_000
GREY = (122.6 / 255, 61.0 / 255)
"""Mean and deviation of grey values in 0..1."""
COLOUR = ((0.4914, 0.4822, 0.4465), (0.247, 0.243, 0.261))
"""Means and deviations of red, green and blue."""


@dataclass(frozen=True, kw_only=True)
class Image(Classification):
    """What is on a photograph of CIFAR-10, read pixel by pixel.

    -.4 -.3 1.1 ... (1,024 grey values, standardised) -> frog. `colour` gives red, green and blue in
    one step. Long Range Arena reads grey values as symbols 0..255: `as_tokens`. The last tenth of
    the 50,000 training images is held out for validation, as published there. Shorter lengths are
    means of square blocks of pixels. Chance is 0.1.
    """

    kind: ClassVar[Kind] = "per_sequence"
    pool: ClassVar[Literal["last", "mean"]] = "mean"
    data_sets: ClassVar[tuple[str, ...]] = ("cifar10",)

    length: int = 1024  # pixels: 64, 256 or 1024
    colour: bool = False
    as_tokens: bool = False  # only in grey

    def __post_init__(self) -> None:
        """Refuse fields that name no task."""
        super().__post_init__()
        if self.length not in (lengths := [side**2 for side in SIDES]):
            raise ValueError(f"length must be one of {lengths}, not {self.length}")
        for name in ("colour", "as_tokens"):
            if not isinstance(value := getattr(self, name), bool):
                raise ValueError(f"{name} must be true or false, not {value!r}")
        if self.colour and self.as_tokens:
            raise ValueError("as_tokens must be false with colour: only grey values are symbols")

    @property
    def inputs(self) -> Tokens | Reals:
        """Grey values, as symbols or standardised, or three colours."""
        return Tokens(256) if self.as_tokens else Reals(3 if self.colour else 1)

    @property
    def n_outputs(self) -> int:
        """Aeroplane, car, bird, cat, deer, dog, frog, horse, ship, lorry."""
        return 10

    def size(self, split: Split) -> int:
        """Images of a split."""
        return {"train": N_TRAIN, "val": N_HELD_OUT, "test": N_TEST}[split]

    def examples(self, split: Split, seed: int, indices: Tensor) -> Batch:
        """The images `indices` (B,) of a split, as (B, T, C) or symbols (B, T), and classes."""
        check_indices(indices, self.size(split))
        pixels, labels = cifar10.images("test" if split == "test" else "train")
        rows = indices + N_TRAIN if split == "val" else indices
        chosen = pixels[rows]  # (B, 3, S, S)
        values = chosen.float() if self.colour else cifar10.grey(chosen).float().unsqueeze(1)
        block = cifar10.SIDE // round(self.length**0.5)
        values = functional.avg_pool2d(values, block).flatten(2).transpose(1, 2)  # (B, T, C)
        if self.as_tokens:
            return Batch(inputs=values.squeeze(2).long(), targets=labels[rows])
        mean, deviation = torch.tensor(COLOUR if self.colour else GREY).view(2, -1)
        return Batch(inputs=(values / 255 - mean) / deviation, targets=labels[rows])

    def fingerprint(self) -> str:
        """The sha256 of the images."""
        return cifar10.sha256()
