"""Metrics as sums and counts, added over batches and devices and divided once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from tasks.task import Count, Metric, mean


class Scores:
    """Running sums and counts by metric name, in float64 on the device that computed them."""

    def __init__(self, metrics: Sequence[Metric] = ()) -> None:
        self._finish = {metric.name: metric.finish for metric in metrics}
        self._totals: dict[str, Tensor] = {}  # name -> (sums..., count)

    def add(self, counts: Mapping[str, Count]) -> None:
        """Add the counts of one batch."""
        for name, (total, count) in counts.items():
            parts = torch.cat(
                [
                    total.detach().double().reshape(-1),
                    count.detach().to(total.device).double().reshape(1),
                ]
            )
            held = self._totals.get(name)
            self._totals[name] = parts if held is None else held + parts

    def reduce(self, reduce: Callable[[Tensor], Tensor]) -> dict[str, float]:
        """Values by metric name, once `reduce` has summed over devices; nan where none counted."""
        return {
            name: self._value(name, reduce(parts)) for name, parts in sorted(self._totals.items())
        }

    def _value(self, name: str, parts: Tensor) -> float:
        *sums, count = parts.tolist()
        return self._finish.get(name, mean)(sums, count)
