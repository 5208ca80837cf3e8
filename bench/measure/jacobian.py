"""The largest singular value of the recurrent Jacobian dh_t / dh_(t-1), along a sequence.

Above 1 a gradient can grow from step to step, and where it is below 1 everywhere it has to vanish:
Pascanu et al. 2013, https://arxiv.org/abs/1211.5063, section 2.1. Power iteration on J^T J (Golub
and Van Loan 2013, section 8.2) over the whole state of `Body.step`: J^T u by backpropagation, J v
by central differences, which in float64 are right to nine digits. Native kernels have no
forward-mode derivative, and torch runs that of LayerNorm in Python, ten times slower.

A state that keeps the last inputs as they are, as the window of a causal convolution, shifts them
by one each step: such a body has singular values of at least 1.

B batch, T time, D width, P positions, R = P B rows.
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
    states = []
    with torch.no_grad():
        for start, t in itertools.pairwise((0, *positions)):
            _, state = body(x[:, start:t], state)
            states.append(state)
    x_t = x[:, list(positions)].transpose(0, 1).flatten(0, 1)  # (R, D)
    found = _largest_singular_values(body, x_t, _side_by_side(states), rng)
    return found.view(len(positions), len(x))  # (P, B)


def _side_by_side(states: Sequence[State]) -> State:
    """The states of different positions as those of one batch: rows do not mix."""
    leaves, structures = zip(*map(pytree.tree_flatten, states), strict=True)
    together = []
    for parts in zip(*leaves, strict=True):
        if len({getattr(part, "shape", None) for part in parts}) > 1:
            raise UnsupportedError("its state changes its shape: there is no recurrent Jacobian")
        together.append(parts[0] if parts[0] is None else torch.cat(parts))
    return pytree.tree_unflatten(together, structures[0])


def _largest_singular_values(body: Body, x_t: Tensor, state: State, rng: torch.Generator) -> Tensor:
    """Of the step on x_t (R, D) from a state: (R,)."""
    parts, rebuild = real_parts(state)
    if not parts:
        raise UnsupportedError("it carries no state")

    def step(given: Parts) -> Parts:
        _, new_state = body.step(x_t, rebuild(given))
        return real_parts(new_state)[0]

    with torch.enable_grad():
        leaves = tuple(part.detach().requires_grad_() for part in parts)
        outputs = step(leaves)
    draws = [torch.randn(part.shape, dtype=torch.float64, generator=rng) for part in parts]
    v, _ = _normalised(tuple(draw.to(part) for draw, part in zip(draws, parts, strict=True)))
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


def _push(step: Callable[[Parts], Parts], parts: Parts, v: Parts) -> Parts:
    """J v, at parts."""
    size = DIFFERENCE_STEP[parts[0].dtype]
    with torch.no_grad():
        above, below = (
            step(tuple(part + sign * size * w for part, w in zip(parts, v, strict=True)))
            for sign in (1, -1)
        )
    return tuple((a - b) / (2 * size) for a, b in zip(above, below, strict=True))


def _pull(outputs: Parts, leaves: Parts, u: Parts) -> Parts:
    """J^T u."""
    dependent = [
        (output, part) for output, part in zip(outputs, u, strict=True) if output.requires_grad
    ]
    if not dependent:
        return tuple(map(torch.zeros_like, leaves))
    outputs, u = zip(*dependent, strict=True)
    return torch.autograd.grad(
        outputs, leaves, u, retain_graph=True, allow_unused=True, materialize_grads=True
    )


def _normalised(parts: Parts) -> tuple[Parts, Tensor]:
    """The parts of each row divided by their common norm, and that norm (B,)."""
    squares = torch.stack([part.flatten(1).square().sum(dim=1) for part in parts])
    norm = squares.sum(dim=0).sqrt()  # (B,)
    divisor = torch.where(norm > 0, norm, torch.ones_like(norm))
    return tuple(part / divisor.view(-1, *[1] * (part.dim() - 1)) for part in parts), norm
