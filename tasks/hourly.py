"""What tasks that forecast hourly series share: windows, horizon, standardisation.

C series, T length, h horizon.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import ClassVar

import torch
from torch import Tensor

from tasks.scoring import Forecast
from tasks.task import Batch, Metric, Reals, Split, check_indices, check_integer


@dataclass(frozen=True, kw_only=True)
class Hourly(Forecast):
    """At every hour all series `horizon` hours later, from the hours so far.

    Train, val and test follow one another in time. Every window of train is an example. Windows of
    val and of test follow one another and score every hour of their split once, at every length
    and horizon: the hours before the split that the first windows read have been scored in the
    split before. The last window is filled up with zeros that are not scored. Series are
    standardised by the mean and the deviation of train, the errors with them.
    """

    contiguous: ClassVar[bool] = True
    bounds: ClassVar[Mapping[Split, tuple[int, int]]]
    """The hours of each split: the first, and the one after the last."""
    series: ClassVar[tuple[str, ...]]
    mean_scores: ClassVar[tuple[float, float]]
    """Squared and absolute error on test of the mean of train, which is 0."""
    persistence: ClassVar[Mapping[int, tuple[float, float]]]
    """Squared and absolute error on test of the value now, by horizon."""

    length: int = 336  # hours
    horizon: int = 1  # hours from the input to the value that is predicted

    def __post_init__(self) -> None:
        """Refuse fields that name no task."""
        super().__post_init__()
        check_integer("horizon", self.horizon, at_least=1)
        held_out = min(end - start for start, end in (self.bounds["val"], self.bounds["test"]))
        if self.length > held_out:
            raise ValueError(
                f"length must be at most the {held_out} hours of val and test, not {self.length}"
            )
        if self.horizon > (longest := self._n_train - self.length):
            raise ValueError(
                f"horizon must be at most the {self._n_train} hours of train less length = "
                f"{longest}, not {self.horizon}"
            )

    @property
    def _n_train(self) -> int:
        return self.bounds["train"][1]

    @property
    def inputs(self) -> Reals:
        """One value of each series."""
        return Reals(len(self.series))

    @property
    def n_outputs(self) -> int:
        """One value of each series."""
        return len(self.series)

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """Mean squared and absolute error; chance is the mean of train, the baseline the value now.

        Both are constants of the data; the baseline is known at some horizons only.
        """
        found = self.persistence.get(self.horizon, (None, None))
        rule = "" if found[0] is None else f"the value {self.horizon} h before"
        return tuple(
            Metric(name, unit, False, chance, baseline=baseline, baseline_rule=rule)
            for name, unit, chance, baseline in zip(
                ("mse", "mae"),
                ("squared deviations", "deviations"),
                self.mean_scores,
                found,
                strict=True,
            )
        )

    def read(self) -> Tensor:
        """All hours (N, C) in float64; cached by the source."""
        raise NotImplementedError

    def size(self, split: Split) -> int:
        """Windows of a split."""
        start, end = self.bounds[split]
        if split == "train":
            return end - start - self.horizon - self.length + 1
        return -(-(end - start) // self.length)

    def examples(self, split: Split, seed: int, indices: Tensor) -> Batch:
        """The windows `indices` (B,) of a split, whatever the seed: (B, T, C) and (B, T, C)."""
        check_indices(indices, self.size(split))
        values = _standardised(self.read(), self._n_train)
        start, end = self.bounds[split]
        firsts = indices + self.horizon if split == "train" else indices * self.length
        hours = start + firsts[:, None] + torch.arange(self.length)  # (B, T), those predicted
        beyond = hours >= end
        hours = hours.clamp(max=end - 1)
        targets = values[hours]  # (B, T, C)
        targets[beyond] = torch.nan
        inputs = values[hours - self.horizon]  # (B, T, C)
        inputs[beyond] = 0
        return Batch(inputs=inputs, targets=targets)


@cache
def _standardised(values: Tensor, n_train: int) -> Tensor:
    train = values[:n_train]
    return ((values - train.mean(0)) / train.std(0, correction=0)).float()
