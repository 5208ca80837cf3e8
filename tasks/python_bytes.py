"""Byte language modelling on the standard library of the running Python. No package, no download.

Whole files are held out, see tasks/data/standard_library.py.

T length, n the evaluated bytes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from tasks.data import standard_library
from tasks.scoring import ByteModelling
from tasks.task import UNSCORED, Batch, Kind, Split, Tokens, check_indices, check_integer, generator


@dataclass(frozen=True, kw_only=True)
class PythonBytes(ByteModelling):
    """The next byte of Python's standard library sources, in bits per byte.

    d e f _ -> e f _ m: the label of a step is the byte after it. Training windows start anywhere,
    drawn anew for every index. Validation and test windows follow one another and score the same
    bytes at every length, each window from an empty state; if n is no multiple of the length, the
    last window reaches back to be full and scores only what is left. Chance is 8, the uniform
    guess; knowing how often each byte occurs gives about 4.6.
    """

    kind: ClassVar[Kind] = "per_step"
    causal_only: ClassVar[bool] = True
    data_sets: ClassVar[tuple[str, ...]] = ("standard_library",)

    length: int = 256  # bytes
    n_eval_bytes: int = 65536  # scored bytes of val, and of test; at least the length

    def __post_init__(self) -> None:
        """Refuse fields that name no task."""
        super().__post_init__()
        check_integer("n_eval_bytes", self.n_eval_bytes, at_least=1)
        if self.length > self.n_eval_bytes:
            raise ValueError(
                f"length must be at most n_eval_bytes = {self.n_eval_bytes}, not {self.length}"
            )

    @property
    def inputs(self) -> Tokens:
        """Bytes."""
        return Tokens(256)

    @property
    def n_outputs(self) -> int:
        """The next byte."""
        return 256

    def size(self, split: Split) -> int | None:
        """Windows of a split; train has one for every index."""
        if split == "train":
            return None
        return -(-self.n_eval_bytes // self.length)

    def examples(self, split: Split, seed: int, indices: Tensor) -> Batch:
        """The windows `indices` (B,) of a split."""
        text = self._text(split)
        if split == "train":
            check_indices(indices, None)
            starts = self._offsets(seed, indices, len(text) - self.length)
        else:
            check_indices(indices, self.size(split))
            starts = (indices * self.length).clamp(max=self.n_eval_bytes - self.length)
        windows = text[starts[:, None] + torch.arange(self.length + 1)].long()  # (B, T+1)
        inputs, labels = windows[:, :-1].contiguous(), windows[:, 1:].clone()
        if split != "train":
            # The windows before the last have scored what it repeats.
            repeated = (indices * self.length - starts)[:, None]
            labels[torch.arange(self.length) < repeated] = UNSCORED
        return Batch(inputs=inputs, targets=labels)

    def fingerprint(self) -> str:
        """The sha256 of the text, all splits."""
        return standard_library.sha256("python_bytes")

    def _text(self, split: Split) -> Tensor:
        text = standard_library.read("python_bytes")[split]
        needed = self.length if split == "train" else self.n_eval_bytes
        if len(text) <= needed:
            name = "length" if split == "train" else "n_eval_bytes"
            raise ValueError(
                f"{name} must be less than the {len(text)} bytes of {split}, not {needed}"
            )
        return text

    def _offsets(self, seed: int, indices: Tensor, n_offsets: int) -> Tensor:
        """Where training windows start (B,): each a function of (seed, index) alone."""
        drawn = [
            torch.randint(n_offsets, (), generator=generator("python_bytes", seed, index))
            for index in indices.tolist()
        ]
        return torch.stack(drawn)
