"""How answers are scored: sums and counts, so that any batching and any devices agree.

K outputs; outputs (..., K) and labels (...), where `...` is (B, T) per step or (B,) per sequence.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from tasks.task import UNSCORED, Batch, Count, Kind, Metric, Task, mean


def cross_entropy(outputs: Tensor, labels: Tensor) -> Count:
    """Nats of the labels (...) under the logits (..., K), over scored positions."""
    logits = outputs.flatten(0, -2).float()  # (B*T, K); in half precision long sums lose digits
    scored = labels.flatten()  # (B*T,)
    nats = functional.cross_entropy(logits, scored, ignore_index=UNSCORED, reduction="sum")
    return Count(nats, (scored != UNSCORED).sum().float())


def accuracy(outputs: Tensor, labels: Tensor) -> Count:
    """How many scored labels (...) have the largest of the outputs (..., K)."""
    right = outputs.argmax(-1) == labels  # never where labels are UNSCORED, which is no class
    return Count(right.sum().float(), (labels != UNSCORED).sum().float())


def squared_error(outputs: Tensor, values: Tensor) -> Count:
    """Squared differences of outputs (..., K) and values (..., K), over values that are not nan."""
    return Count(_differences(outputs, values).square().sum(), _n_scored(values))


def absolute_error(outputs: Tensor, values: Tensor) -> Count:
    """Absolute differences of outputs (..., K) and values (..., K), over values not nan."""
    return Count(_differences(outputs, values).abs().sum(), _n_scored(values))


def _differences(outputs: Tensor, values: Tensor) -> Tensor:
    """Outputs less values; 0, and without gradient, where the value is nan."""
    known = ~values.isnan()
    return torch.where(known, outputs.float() - values.nan_to_num(), values.new_zeros(()))


def _n_scored(values: Tensor) -> Tensor:
    return (~values.isnan()).sum().float()


def perplexity(sums: Sequence[float], count: float) -> float:
    """The exponential of the mean of nats; infinite where no float is as large."""
    try:
        return math.exp(mean(sums, count))
    except OverflowError:
        return math.inf


class Classification(Task):
    """Trained by cross-entropy, scored by accuracy."""

    @property
    def chance(self) -> float:
        """The accuracy of a blind guess; one in K unless the task says otherwise."""
        return 1 / self.n_outputs

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """Accuracy over scored positions."""
        return (Metric("accuracy", "fraction", higher_is_better=True, chance=self.chance),)

    def loss(self, outputs: Tensor, targets: Tensor) -> Count:
        """Cross-entropy in nats."""
        return cross_entropy(outputs, targets)

    def score(self, outputs: Tensor, targets: Tensor) -> Mapping[str, Count]:
        """Accuracy."""
        return {"accuracy": accuracy(outputs, targets)}


class Regression(Task):
    """Trained and scored by the squared error."""

    @property
    def chance(self) -> float:
        """The mean squared error of the best constant."""
        raise NotImplementedError

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """Mean squared error."""
        return (Metric("mse", "squared error", higher_is_better=False, chance=self.chance),)

    def loss(self, outputs: Tensor, targets: Tensor) -> Count:
        """Squared error."""
        return squared_error(outputs, targets)

    def score(self, outputs: Tensor, targets: Tensor) -> Mapping[str, Count]:
        """Squared error."""
        return {"mse": squared_error(outputs, targets)}


class Forecast(Task):
    """Predicts real numbers at every step (B, T, K): trained by the squared error, scored by it and
    by the absolute error, over the values that are not nan. Values are standardised: the errors
    are counted in (squared) standard deviations of the training values.
    """

    kind: ClassVar[Kind] = "per_step"
    causal_only: ClassVar[bool] = True

    def loss(self, outputs: Tensor, targets: Tensor) -> Count:
        """Squared error."""
        return squared_error(outputs, targets)

    def score(self, outputs: Tensor, targets: Tensor) -> Mapping[str, Count]:
        """Squared and absolute error."""
        return {
            "mse": squared_error(outputs, targets),
            "mae": absolute_error(outputs, targets),
        }


class ByteModelling(Task):
    """Trained by cross-entropy on the next byte, scored in bits per byte."""

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """Bits per byte; chance is the uniform guess, 8."""
        chance = math.log2(self.n_outputs)
        return (Metric("bits_per_byte", "bits/byte", higher_is_better=False, chance=chance),)

    def loss(self, outputs: Tensor, targets: Tensor) -> Count:
        """Cross-entropy in nats."""
        return cross_entropy(outputs, targets)

    def score(self, outputs: Tensor, targets: Tensor) -> Mapping[str, Count]:
        """Bits of the next byte."""
        nats, count = cross_entropy(outputs, targets)
        return {"bits_per_byte": Count(nats / math.log(2), count)}


class Writing(Task):
    """Answers by a sequence: trained on each symbol given those before it, scored on what is
    written symbol by symbol.
    """

    kind: ClassVar[Kind] = "seq2seq"

    @property
    def chance(self) -> float:
        """How many symbols a blind guess gets right; one in K unless the task says otherwise."""
        return 1 / self.n_outputs

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """Right symbols, wholly right answers, and right symbols given those before them."""
        return (
            Metric("accuracy", "fraction", higher_is_better=True, chance=self.chance),
            Metric("exact", "fraction", higher_is_better=True, chance=0.0),
            Metric("forced_accuracy", "fraction", higher_is_better=True, chance=self.chance),
        )

    def loss(self, outputs: Tensor, targets: Tensor) -> Count:
        """Cross-entropy in nats."""
        return cross_entropy(outputs, targets)

    def score(self, outputs: Tensor, targets: Tensor) -> Mapping[str, Count]:
        """Accuracy given the symbols before."""
        return {"forced_accuracy": accuracy(outputs, targets)}

    def score_written(self, written: Tensor, batch: Batch) -> Mapping[str, Count]:
        """Accuracy and wholly right answers, from what was written (B, S)."""
        scored = batch.targets != UNSCORED  # (B, S)
        right = (written == batch.targets) & scored
        exact = (right | ~scored).all(1)  # (B,)
        return {
            "accuracy": Count(right.sum().float(), scored.sum().float()),
            "exact": Count(
                exact.sum().float(), exact.new_tensor(float(len(exact)), dtype=torch.float32)
            ),
        }
