"""Polyphonic music, Bach's chorales: Boulanger-Lewandowski et al. 2012, section 6,
https://arxiv.org/abs/1206.6392.

The next frame given those before it, every note a Bernoulli variable of its own, as in Bai et al.
2018, https://arxiv.org/abs/1803.01271, section 4.3, with their split.

T length, F frames.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import ClassVar, Literal, NamedTuple, TypeAlias, get_args

import torch
from torch import Tensor
from torch.nn import functional

from tasks.data import jsb
from tasks.data.folders import fingerprint_of, folder_of
from tasks.task import Batch, Count, Kind, Metric, Reals, Split, Task, check_indices

Resolution: TypeAlias = Literal["quarter", "16th"]


@dataclass(frozen=True, kw_only=True)
class Jsb(Task):
    """Bach's chorales as 88 notes a frame: the next frame, in nats per frame.

    {74 70 65 58} {75 70 67 58} -> {75 70 67 58} {77 70 69 62}: notes that sound are 1, the others
    0. The published 229, 76 and 77 pieces. All frames but the first of a piece are scored, once
    at every length: a piece longer than the length is read in windows, each from an empty state.
    With `quarter` the published numbers are comparable where a piece is one window (length 160);
    `16th` has four frames for each of those, most equal to the one before. Chance is 88 ln 2.
    """

    kind: ClassVar[Kind] = "per_step"
    causal_only: ClassVar[bool] = True
    data_sets: ClassVar[tuple[str, ...]] = ("jsb",)
    note_frequencies: ClassVar[Mapping[Resolution, float]] = {
        "quarter": 11.0923,
        "16th": 11.5281,
    }
    """Nats per frame on test of each note's frequency in train."""

    length: int = 160  # frames
    resolution: Resolution = "quarter"  # a frame's duration, in notes

    def __post_init__(self) -> None:
        """Refuse fields that name no task."""
        super().__post_init__()
        if self.resolution not in (choices := get_args(Resolution)):
            raise ValueError(
                f"resolution must be one of {', '.join(choices)}, not {self.resolution!r}"
            )

    @property
    def inputs(self) -> Reals:
        """A frame's notes, 0 or 1."""
        return Reals(jsb.N_NOTES)

    @property
    def n_outputs(self) -> int:
        """A logit of each note."""
        return jsb.N_NOTES

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """Nats per frame; the baseline adds one to how often each note does and does not sound."""
        return (
            Metric(
                "nll_per_frame",
                "nats/frame",
                higher_is_better=False,
                chance=jsb.N_NOTES * math.log(2),
                baseline=self.note_frequencies[self.resolution],
                baseline_rule="how often each note sounds in train",
            ),
        )

    def size(self, split: Split) -> int:
        """Windows of a split."""
        return len(self._windows(split).starts)

    def examples(self, split: Split, seed: int, indices: Tensor) -> Batch:
        """The windows `indices` (B,) of a split, whatever the seed: (B, T, 88) and (B, T, 88)."""
        windows = self._windows(split)
        check_indices(indices, len(windows.starts))
        frames = self._pieces(split).frames
        lengths = windows.lengths[indices]  # (B,)
        steps = torch.arange(self.length)
        beyond = steps >= lengths[:, None]  # (B, T)
        places = windows.starts[indices, None] + torch.where(beyond, 0, steps)
        inputs = frames[places].float()  # (B, T, 88)
        targets = frames[places + 1].float()  # (B, T, 88)
        inputs[beyond], targets[beyond] = 0, torch.nan
        return Batch(inputs=inputs, targets=targets, lengths=lengths)

    def loss(self, outputs: Tensor, targets: Tensor) -> Count:
        """Nats per note, an 88th of the nats per frame."""
        scored = ~targets.isnan()
        return Count(_nats(outputs, targets), scored.sum().float())

    def score(self, outputs: Tensor, targets: Tensor) -> Mapping[str, Count]:
        """Nats per frame."""
        scored = ~targets.isnan().any(-1)  # (B, T)
        return {"nll_per_frame": Count(_nats(outputs, targets), scored.sum().float())}

    def fingerprint(self) -> str:
        """A hash of the files' checksums."""
        return fingerprint_of("jsb")

    def _pieces(self, split: Split) -> jsb.Pieces:
        return jsb.read(folder_of("jsb") / f"jsb-chorales-{self.resolution}.json")[split]

    def _windows(self, split: Split) -> _Windows:
        return _cut(self._pieces(split).sizes, self.length)


class _Windows(NamedTuple):
    """Where windows start (n,) among the frames of a split, and how many frames they read (n,)."""

    starts: Tensor
    lengths: Tensor


@cache
def _cut(sizes: Tensor, length: int) -> _Windows:
    """Cut pieces into windows; the last frame of a piece is only predicted."""
    starts, lengths, first = [], [], 0
    for size in sizes.tolist():
        for start in range(0, size - 1, length):
            starts.append(first + start)
            lengths.append(min(length, size - 1 - start))
        first += size
    return _Windows(torch.tensor(starts), torch.tensor(lengths))


def _nats(outputs: Tensor, targets: Tensor) -> Tensor:
    """The summed nats of the notes (B, T, 88) under logits (B, T, 88), where they are not nan."""
    unscored = targets.isnan()
    nats = functional.binary_cross_entropy_with_logits(
        outputs.float().masked_fill(unscored, 0), targets.nan_to_num(), reduction="none"
    )
    return nats.masked_fill(unscored, 0).sum()
