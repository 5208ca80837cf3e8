"""Whether what a task draws is as frequent as it should be."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from tasks.task import Batch, Task

N = 4000
"""Examples that are drawn."""
STANDARD_ERRORS = 4.0  # hundreds of frequencies are looked at


def take(task: Task, n: int = N, split: str = "test", seed: int = 0) -> Batch:
    """Examples of a task."""
    return task.examples(split, seed, torch.arange(n))  # type: ignore[arg-type]


def near(observed: float, expected: float, n: int = N) -> bool:
    """Whether a share of n is what it should be."""
    error = math.sqrt(max(expected * (1 - expected), 1 / n) / n)
    return abs(observed - expected) <= STANDARD_ERRORS * error


def uniform(found: Tensor, choices: range) -> bool:
    """Whether integers are uniform over the choices, and no others."""
    shares = [(found == choice).double().mean().item() for choice in choices]
    return sum(shares) == pytest.approx(1) and all(
        near(share, 1 / len(choices), found.numel()) for share in shares
    )
