"""What the machine could do at most, measured in the same process with as many threads.

Arithmetic: the better rate of a linear layer and of a large matrix product in float32, 2 operations
for each multiplication. Memory: the better rate of a copy and of a * b + c, bytes read and bytes
written. An operation is held against both, by its operations of forward and backward (as the
bodies count them, the backward pass twice the forward where nothing else is said) and by its least
traffic; shown is the limit that it comes closer to. What fits into the caches may exceed that of
memory.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import linear

from tests.speed.kernel_table.timing import Outcome, Timer, least_seconds

PRODUCT_SIZE = 1024
ROWS = 8192
ELEMENTS = 1 << 25  # 128 MiB, more than caches hold
BLOCKS = 4


@dataclass(frozen=True)
class Limits:
    """The rates of this machine."""

    flop_per_s: float
    bytes_per_s: float

    def __str__(self) -> str:
        return (
            f"products {self.flop_per_s / 1e9:.0f} GFLOP/s, "
            f"memory {self.bytes_per_s / 1e9:.1f} GB/s"
        )

    def share(self, outcome: Outcome) -> str:
        """Of the limit that an operation comes closer to, and which it is."""
        of_products = outcome.flops / outcome.seconds / self.flop_per_s
        of_memory = outcome.moved_bytes / outcome.seconds / self.bytes_per_s
        if of_products > of_memory:
            return f"{of_products:4.0%} of products"
        return f"{of_memory:4.0%} of memory"


def measure(timer: Timer) -> Limits:
    """Take about two seconds to find them."""
    return Limits(_flop_per_s(timer), _bytes_per_s(timer))


def _flop_per_s(timer: Timer) -> float:
    """Operations per second of the better of two products."""
    square = torch.randn(PRODUCT_SIZE, PRODUCT_SIZE, device=timer.device)
    rows = torch.randn(ROWS, PRODUCT_SIZE, device=timer.device)
    products: list[tuple[Callable[[], Tensor], int]] = [
        (lambda: linear(rows, square), ROWS),
        (lambda: square @ square, PRODUCT_SIZE),
    ]
    return max(
        2.0 * n_rows * PRODUCT_SIZE**2 / least_seconds(product, timer, BLOCKS)
        for product, n_rows in products
    )


def _bytes_per_s(timer: Timer) -> float:
    """Bytes read and written per second by the better of two sweeps."""
    a, b, c, y = (torch.ones(ELEMENTS, device=timer.device) for _ in range(4))
    sweeps: list[tuple[Callable[[], Tensor], int]] = [
        (lambda: y.copy_(a), 2),
        (lambda: torch.addcmul(a, b, c, out=y), 4),
    ]
    return max(
        4.0 * n_tensors * ELEMENTS / least_seconds(sweep, timer, BLOCKS)
        for sweep, n_tensors in sweeps
    )
