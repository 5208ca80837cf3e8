"""Metrics as sums and counts, added over batches and devices and divided once."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from tasks.task import Count


class Scores:
    """Running sums and counts by metric name, in float64 on the device that computed them."""

    def __init__(self) -> None:
        self._totals: dict[str, Tensor] = {}  # name -> (sum, count)

    def add(self, counts: Mapping[str, Count]) -> None:
        """Add the counts of one batch."""
        for name, (total, count) in counts.items():
            pair = torch.stack([total.detach().double(), count.to(total.device).double()])
            held = self._totals.get(name)
            self._totals[name] = pair if held is None else held + pair

    def reduce(self, reduce: Callable[[Tensor], Tensor]) -> dict[str, float]:
        """Means by metric name, once `reduce` has summed over devices; nan where none counted."""
        return {name: _divided(reduce(pair)) for name, pair in sorted(self._totals.items())}


def _divided(pair: Tensor) -> float:
    total, count = pair.tolist()
    return total / count if count else float("nan")
