"""What a law found, and the trials it runs: a body, inputs and cotangents from a seed."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor, nn

from architectures.body import Body, State, state_tensors

MakeBody: TypeAlias = Callable[[], Body]
N_ROWS = 3
LENGTH = 37
PARAMETER_NOISE = 0.02

# Relative to the largest expected value. Different orders of the same sum differ by a few units of
# rounding, some hundred after a few layers; a broken law differs by far more.
BOUNDS = {torch.float64: 1e-10, torch.float32: 1e-4, torch.bfloat16: 1e-1, torch.float16: 2e-2}


@dataclass(frozen=True, kw_only=True)
class Finding:
    """The largest error of a law on one body, beside the bound it was held to."""

    law: str
    error: float
    bound: float
    detail: str = ""

    @property
    def holds(self) -> bool:
        """Whether the error is within the bound; nan is not."""
        return self.error <= self.bound


class Trial:
    """One body and the random draws of one law, all from a seed."""

    def __init__(
        self,
        make_body: MakeBody,
        dtype: torch.dtype,
        device: torch.device,
        seed: int = 0,
        noise: float = PARAMETER_NOISE,
    ) -> None:
        self.noise = noise
        self.dtype = dtype
        self.device = device
        self.generator = torch.Generator().manual_seed(seed)
        self.body = self.build(make_body, seed)

    def build(self, make_body: MakeBody, seed: int) -> Body:
        """A body in training mode without dropout, its parameters from the seed.

        Parameters get some noise: what begins at 0 would hide errors behind it.
        """
        # Bodies initialise themselves from the global generator.
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            body = make_body()
            with torch.no_grad():
                for parameter in body.parameters():
                    parameter.add_(self.noise * torch.randn_like(parameter))
        without_dropout(body)
        # Training mode: cuDNN's recurrent layers have no gradient in evaluation.
        return body.to(device=self.device, dtype=self.dtype).train()

    def normal(self, *shape: int) -> Tensor:
        """A standard normal tensor."""
        drawn = torch.randn(*shape, dtype=torch.float64, generator=self.generator)
        return drawn.to(device=self.device, dtype=self.dtype)

    def inputs(self, n_rows: int = N_ROWS, length: int = LENGTH) -> Tensor:
        """A random x (B, T, D)."""
        return self.normal(n_rows, length, self.body.width)

    def lengths(self) -> Tensor:
        """Lengths (B,) for inputs(): one row full, one of a single token, one between."""
        return torch.tensor([LENGTH // 2, LENGTH, 1], device=self.device)

    def cotangent(self, values: list[Tensor]) -> Tensor:
        """The scalar product of the values with random tensors of their shapes.

        Never a plain sum: behind a norm its gradient is nearly 0.
        """
        total = torch.zeros((), dtype=self.dtype, device=self.device)
        for value in values:
            if value.is_floating_point():
                total = total + (value * self.normal(*value.shape)).sum()
        return total


def without_dropout(body: Body) -> None:
    """Set every dropout to 0, of nn.Dropout and of modules that keep its rate as a number."""
    for module in body.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        elif "dropout" in vars(module):
            vars(module)["dropout"] = 0.0


def bound_of(dtype: torch.dtype) -> float:
    """The relative error allowed in this dtype."""
    return BOUNDS[dtype]


def relative_error(actual: Tensor, expected: Tensor) -> float:
    """The largest difference, divided by the largest expected value unless that is 0."""
    if actual.shape != expected.shape:
        return math.inf
    if not expected.numel():
        return 0.0
    actual, expected = actual.detach().double(), expected.detach().double()
    scale = expected.abs().max().item() or 1.0
    return (actual - expected).abs().max().item() / scale


def state_error(actual: State, expected: State) -> float:
    """The largest relative error of the states' tensors; infinite if they differ in structure."""
    pairs = list(state_tensors(actual)), list(state_tensors(expected))
    if len(pairs[0]) != len(pairs[1]):
        return math.inf
    return largest(relative_error(a, b) for a, b in zip(*pairs, strict=True))


def largest(errors: Iterator[float] | list[float]) -> float:
    """The largest error; nan if any is nan, which max() may drop."""
    seen = list(errors)
    return math.nan if any(math.isnan(error) for error in seen) else max(seen, default=0.0)


def rows_of(state: State, rows: slice) -> State:
    """Some rows of a batch-first state."""
    if isinstance(state, Tensor):
        return state[rows]
    if isinstance(state, dict):
        return {key: rows_of(value, rows) for key, value in state.items()}
    if isinstance(state, tuple | list):
        return type(state)(rows_of(value, rows) for value in state)
    return state
