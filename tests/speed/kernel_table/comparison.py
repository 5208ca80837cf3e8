"""What a line of the table compares."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor

BATCH, WIDTH, STATE = 8, 128, 16

Call: TypeAlias = Callable[..., Tensor]


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Two implementations, what they are given, and how many times faster the first has to be."""

    name: str
    native: Call
    peer_name: str
    peer: Call
    inputs: Sequence[Tensor]
    peer_inputs: Sequence[Tensor] | None = None
    """None: the same."""
    bound: float
    not_slower: bool = False
    """The bound is equality, met within the noise: see `Outcome.met`."""
    flops: float = 0.0
    """Of forward and backward, counted where an operation may be bound by arithmetic."""
    same: bool = True
    """Both compute the same, which is checked before they are timed."""
    quick: bool = True
    """Whether --quick times it."""
    cuda: bool = True
    """Whether there is anything to compare on a GPU."""

    @property
    def title(self) -> str:
        """What --only is matched with."""
        return f"{self.name} / {self.peer_name}"


def normal(*shape: int, device: torch.device, **options: Any) -> Tensor:
    """Differentiable normal numbers."""
    return torch.randn(*shape, device=device, **options).requires_grad_()


def uniform(*shape: int, device: torch.device, scale: float) -> Tensor:
    """Differentiable numbers between 0 and `scale`, which may be negative."""
    return (scale * torch.rand(*shape, device=device)).requires_grad_()
