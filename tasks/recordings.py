"""What tasks that classify recordings share: rate, standardisation, padding.

N samples of a recording, T length.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import ClassVar, Literal

import torch
from torch import Tensor
from torch.nn import functional

from tasks.data.recordings import Listing, read_wave
from tasks.scoring import Classification
from tasks.task import Batch, Kind, Reals, Split, check_indices

CACHED_RECORDINGS = 3072
"""Waves kept in memory: all of the smaller set, up to 200 MB of the larger one."""


@dataclass(frozen=True, kw_only=True)
class Recordings(Classification):
    """The raw waveform of a recording, one sample per step, and its class.

    A rate below the recorded one is reached by a low-pass filter and keeping every n-th sample.
    Each recording is standardised by its own mean and deviation: speakers stood nearer or further.
    Recordings longer than the length lose their end; shorter ones are padded, and outputs averaged
    over what is real, as S4 does (Gu et al. 2022, https://arxiv.org/abs/2111.00396).
    """

    kind: ClassVar[Kind] = "per_sequence"
    pool: ClassVar[Literal["last", "mean"]] = "mean"
    recorded_rate: ClassVar[int]  # samples per second
    rates: ClassVar[tuple[int, ...]]

    rate: int  # samples per second

    def __post_init__(self) -> None:
        """Refuse fields that name no task."""
        super().__post_init__()
        if self.rate not in self.rates:
            raise ValueError(f"rate must be one of {list(self.rates)}, not {self.rate!r}")

    @property
    def inputs(self) -> Reals:
        """A sample."""
        return Reals(1)

    def listing(self, split: Split) -> Listing:
        """The recordings of a split; cached by the source."""
        raise NotImplementedError

    def size(self, split: Split) -> int:
        """Recordings of a split."""
        return len(self.listing(split).paths)

    def examples(self, split: Split, seed: int, indices: Tensor) -> Batch:
        """The recordings `indices` (B,) of a split, whatever the seed: (B, T, 1), classes (B,)."""
        listing = self.listing(split)
        check_indices(indices, len(listing.paths))
        inputs = torch.zeros(len(indices), self.length, 1)
        lengths = []
        for row, index in enumerate(indices.tolist()):
            wave = _wave(listing.paths[index], self.recorded_rate, self.rate)[: self.length]
            inputs[row, : len(wave), 0] = wave
            lengths.append(len(wave))
        return Batch(inputs=inputs, targets=listing.labels[indices], lengths=torch.tensor(lengths))


@lru_cache(maxsize=CACHED_RECORDINGS)
def _wave(path: Path, recorded_rate: int, rate: int) -> Tensor:
    """A recording (N,) at another rate, with mean 0 and deviation 1."""
    samples = read_wave(path, recorded_rate)
    if rate != recorded_rate:
        samples = _decimated(samples, recorded_rate // rate)
    centred = samples - samples.mean()
    # A recording of nothing but silence stays nothing.
    return centred / centred.square().mean().sqrt().clamp(min=1e-6)


def _decimated(samples: Tensor, step: int) -> Tensor:
    """Every `step`-th of samples (N,), after what the new rate cannot hold was filtered out."""
    taps = _low_pass(step)
    ends = len(taps) // 2
    padded = functional.pad(samples[None], (ends, ends), mode="replicate")[0]
    return padded.unfold(0, len(taps), step) @ taps  # (N / step,), faster than conv1d


@cache
def _low_pass(step: int) -> Tensor:
    """A windowed sinc that cuts at the new Nyquist frequency, ten new samples to each side."""
    from scipy.signal import firwin  # half a second to import

    taps = firwin(2 * 10 * step + 1, 1 / step, window=("kaiser", 5.0))
    return torch.from_numpy(taps).float()
