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
from tasks.python_source import PythonSource
from tasks.scoring import ByteModelling
from tasks.task import UNSCORED, Batch, Split, check_indices


@dataclass(frozen=True, kw_only=True)
class PythonBytes(PythonSource, ByteModelling):
    """The next byte of Python's standard library sources, in bits per byte.

    d e f _ -> e f _ m: the label of a step is the byte after it. Training windows start anywhere,
    drawn anew for every index. Validation and test windows follow one another and score the same
    bytes at every length; if n is no multiple of the length, the last window reads on and scores
    only what is left. Where a file ends the next one follows, within a window as between windows:
    a state that is carried passes over it too. Chance is 8, the uniform guess; knowing how often
    each byte occurs gives about 4.6.
    """

    name: ClassVar[str] = "python_bytes"
    causal_only: ClassVar[bool] = True
    contiguous: ClassVar[bool] = True

    @property
    def n_outputs(self) -> int:
        """The next byte."""
        return 256

    def examples(self, split: Split, seed: int, indices: Tensor) -> Batch:
        """The windows `indices` (B,) of a split."""
        text = self._text(split)
        if split == "train":
            check_indices(indices, None)
            starts = self.drawn_starts(seed, indices, len(text) - self.length)
        else:
            check_indices(indices, self.size(split))
            starts = indices * self.length
        places = starts[:, None] + torch.arange(self.length + 1)  # (B, T+1)
        windows = text[places.clamp(max=len(text) - 1)].long()  # (B, T+1)
        inputs, labels = windows[:, :-1].contiguous(), windows[:, 1:].clone()
        if split != "train":
            labels[places[:, 1:] > self.n_eval_bytes] = UNSCORED
        return Batch(inputs=inputs, targets=labels)

    def fingerprint(self) -> str:
        """The sha256 of the text, all splits."""
        return standard_library.sha256(self.name)

    def _text(self, split: Split) -> Tensor:
        text = standard_library.read(self.name)[split]
        field, needed = self.asked_bytes(split)
        if len(text) <= needed:
            raise ValueError(
                f"{field} must be less than the {len(text)} bytes of {split}, not {needed}"
            )
        return text
