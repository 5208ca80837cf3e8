"""The largest singular value of the recurrent Jacobian dh_t / dh_(t-1), along a sequence.

Above 1 a gradient can grow from step to step, and where it is below 1 everywhere it has to vanish:
Pascanu et al. 2013, https://arxiv.org/abs/1211.5063, section 2.1. Power iteration on J^T J (Golub
and Van Loan 2013, section 8.2) on the whole state of `Body.step`: J v by forward-mode
differentiation, or by central differences where a body's operations have none; J^T u by
backpropagation.

A state that keeps the last inputs as they are, as the window of a causal convolution, shifts them
by one each step: such a body has singular values of at least 1.

B batch, T time, D width, P positions.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import TypeAlias

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from architectures.body import Body, State, UnsupportedError

Parts: TypeAlias = tuple[Tensor, ...]
"""The numbers of a state that vary continuously, as real tensors, batch first."""

N_POSITIONS = 8
N_ITERATIONS = 60
TOLERANCE = 1e-4  # change of the estimate, relative, at which it stands
DIFFERENCE_STEP = {torch.float64: 1e-6, torch.float32: 1e-3}


def positions_along(length: int) -> list[int]:
    """Up to eight positions t of a sequence, evenly spread from its second token to its last."""
    n = min(N_POSITIONS, length - 1)
    return sorted({1 + round(i * (length - 2) / max(1, n - 1)) for i in range(n)})


def along(body: Body, x: Tensor, positions: Sequence[int], rng: torch.Generator) -> Tensor:
    """The largest singular value of dh_t / dh_(t-1) for each position t: (P, B).

    Args:
        body: a causal body, in the dtype of x.
        x: the sequence (B, T, D).
        positions: ascending, from 1 to T - 1.
        rng: draws where the power iteration begins.

    Raises:
        UnsupportedError: the body has no state of fixed size that goes from step to step.
    """
    if not body.causal:
        raise UnsupportedError("it reads both ways: there is no recurrent Jacobian")
    if body.state_grows:
        raise UnsupportedError("its state grows by every token: there is no recurrent Jacobian")
    state: State = None
    found = []
    for start, t in itertools.pairwise((0, *positions)):
        with torch.no_grad():
            _, state = body(x[:, start:t], state)
        found.append(_largest_singular_value(body, x[:, t], state, rng))
    return torch.stack(found)  # (P, B)


def _largest_singular_value(
    body: Body, x_t: Tensor, state: State, rng: torch.Generator
) -> Tensor:
    """Of the step on x_t (B, D) from a state: (B,)."""
    parts, rebuild = real_parts(state)
    if not parts:
        raise UnsupportedError("it carries no state")

    def step(*given: Tensor) -> Parts:
        _, new_state = body.step(x_t, rebuild(given))
        new_parts, _ = real_parts(new_state)
        if [part.shape for part in new_parts] != [part.shape for part in parts]:
            raise UnsupportedError("its state changes its shape: there is no recurrent Jacobian")
        return new_parts

    with torch.enable_grad():
        leaves = tuple(part.detach().requires_grad_() for part in parts)
        outputs = step(*leaves)
    v = _normalised(
        tuple(
            torch.randn(part.shape, dtype=torch.float64, generator=rng).to(part) for part in parts
        )
    )[0]
    sigma = x_t.new_zeros(len(x_t))
    for _ in range(N_ITERATIONS):
        before = sigma
        u, sigma = _normalised(_push(step, parts, v))
        if bool(((sigma - before).abs() <= TOLERANCE * sigma).all()):
            break
        v, _ = _normalised(_pull(outputs, leaves, u))
    return sigma


def real_parts(state: State) -> tuple[Parts, Callable[[Sequence[Tensor]], State]]:
    """The continuous numbers of a state as real tensors, and what makes a state of such.

    Counters and masks stay as they are; complex numbers become pairs of real ones.
    """
    leaves, structure = pytree.tree_flatten(state)
    varying = [
        index
        for index, leaf in enumerate(leaves)
        if isinstance(leaf, Tensor) and (leaf.is_floating_point() or leaf.is_complex())
    ]

    def rebuild(parts: Sequence[Tensor]) -> State:
        made = list(leaves)
        for index, part in zip(varying, parts, strict=True):
            made[index] = torch.view_as_complex(part) if leaves[index].is_complex() else part
        return pytree.tree_unflatten(made, structure)

    return tuple(
        torch.view_as_real(leaves[i]) if leaves[i].is_complex() else leaves[i] for i in varying
    ), rebuild


def _push(step: Callable[..., Parts], parts: Parts, v: Parts) -> Parts:
    """J v, at parts."""
    try:
        with torch.enable_grad():
            _, pushed = torch.func.jvp(step, parts, v)
    except (NotImplementedError, RuntimeError):  # an operation without a forward derivative
        size = DIFFERENCE_STEP.get(parts[0].dtype, DIFFERENCE_STEP[torch.float32])
        with torch.no_grad():
            ends = [
                step(*(part + sign * size * direction for part, direction in zip(parts, v, strict=True)))
                for sign in (1, -1)
            ]
        pushed = tuple((above - below) / (2 * size) for above, below in zip(*ends, strict=True))
    return tuple(part.detach() for part in pushed)


def _pull(outputs: Parts, leaves: Parts, u: Parts) -> Parts:
    """J^T u."""
    return torch.autograd.grad(
        outputs, leaves, u, retain_graph=True, allow_unused=True, materialize_grads=True
    )


def _normalised(parts: Parts) -> tuple[Parts, Tensor]:
    """The parts of each row divided by their common norm, and that norm (B,)."""
    squares = torch.stack([part.flatten(1).square().sum(dim=1) for part in parts])
    norm = squares.sum(dim=0).sqrt()  # (B,)
    divisor = torch.where(norm > 0, norm, torch.ones_like(norm))
    return tuple(part / divisor.view(-1, *[1] * (part.dim() - 1)) for part in parts), norm
