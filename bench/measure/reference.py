"""Work that is always the same: how fast the machine was while a session timed its cells.

A machine is not the same every hour: its clock changes, and neighbours take caches and memory. All
cells of one session meet the same machine; those of two sessions do not, and the medians of this
work say by how much (`bench.records.noise`). A third of the time of a step, more or less, goes to
each of what sequence models do: products, passes over memory, and small operations one by one.
"""

from __future__ import annotations

import torch

PRODUCT_SIZE = {"cpu": 256, "cuda": 2048}  # of square products
ARRAY_BYTES = {"cpu": 8 << 20, "cuda": 256 << 20}  # of each of two arrays
SMALL_SIZE = 64
N_SMALL = 100


class Reference:
    """One step of the work, on a device."""

    def __init__(self, device: torch.device) -> None:
        size, n_values = PRODUCT_SIZE[device.type], ARRAY_BYTES[device.type] // 4
        self.matrix = torch.full((size, size), 1.0 / size, device=device)
        self.product = torch.empty_like(self.matrix)
        self.array = torch.ones(n_values, device=device)
        self.copy = torch.empty_like(self.array)
        self.small = torch.full((SMALL_SIZE, SMALL_SIZE), 1.0 / SMALL_SIZE, device=device)

    def __call__(self) -> None:
        """Do it once."""
        with torch.no_grad():
            torch.mm(self.matrix, self.matrix, out=self.product)
            torch.add(self.array, 1.0, out=self.copy)
            h = self.small[:1]
            for _ in range(N_SMALL):
                h = torch.tanh(h @ self.small)
