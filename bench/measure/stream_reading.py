"""A stream read up to given positions, quickly: by the parallel pass in chunks with carried state.

The last token before a position is read by `step`, so that the state is one that a stream leaves,
and its size that of a stream: a chunk may leave a view of itself.

Several streams have read the same tokens up to that last one: one stream is read, and its state is
given to all of them. What a step costs does not depend on the values, and 64 streams of a million
tokens would take an hour to read.

B batch, T time, D width, P position: tokens read so far.
"""

from __future__ import annotations

import gc
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from architectures.body import Body, State, state_bytes
from bench.measure.free_memory import free_bytes
from bench.training.execute import diagnose

CHUNK_TOKENS = 8192
MASK_NUMBERS = 1 << 24
"""A body that sees all earlier tokens may make a mask of a chunk by them: 16 MiB of booleans."""
N_COPIES = 3  # of a state while steps are taken from it: it, the last and the next
PATIENCE = 2.0
"""How many times the time that is left a position may seem to need, before it is given up."""


@dataclass(frozen=True)
class Snapshot:
    """The state after P tokens, and the bytes of it."""

    position: int
    state: State
    state_bytes: int


@dataclass(frozen=True)
class Reading:
    """The positions that were reached, in order, and why the others were not."""

    snapshots: list[Snapshot]
    missing: dict[int, str]


@dataclass(frozen=True)
class Source:
    """Standard normal tokens for a body: numbers as an embedding at its initialisation gives."""

    batch: int
    width: int
    dtype: torch.dtype
    generator: torch.Generator

    def __call__(self, length: int) -> Tensor:
        """The next x (1, T, D) of one stream."""
        return self._normal(1, length, self.width)

    def token(self) -> Tensor:
        """The next x_t (B, D) of all streams, in memory of its own."""
        return self._normal(self.batch, self.width)

    def _normal(self, *shape: int) -> Tensor:
        device = self.generator.device
        return torch.randn(shape, generator=self.generator, device=device).to(self.dtype)


def read(
    body: Body,
    source: Source,
    positions: Sequence[int],
    *,
    limit_s: float,
    ahead: int,
    synchronise: Callable[[], None],
    clock: Callable[[], float],
) -> Reading:
    """Read up to every position, or as far as memory and `limit_s` seconds reach.

    `ahead` steps are taken after a position: a body's positions may end before, and one that takes
    so long that they would take longer than reading is not reached either.
    """
    found = Reading([], {})
    pending = sorted(set(positions))
    room = math.inf if (last := max_length(body)) is None else last - ahead
    reader = _Reader(body, source, limit_s, ahead, synchronise, clock)
    for index, target in enumerate(pending):
        try:
            if target > room:
                raise _UnreachedError(f"the body's positions end at {last}")
            found.snapshots.append(reader.snapshot(target))
        except Exception as error:
            found.missing.update(dict.fromkeys(pending[index:], _reason(error, reader.position)))
            break
    gc.collect()
    return found


def grows(body: Body) -> bool:
    """Whether a body inside says that its state grows."""
    return any(inner.state_grows for inner in body.modules() if isinstance(inner, Body))


def max_length(body: Body) -> int | None:
    """The most tokens that the body and those inside it can read."""
    bounds = (inner.max_length for inner in body.modules() if isinstance(inner, Body))
    return min((bound for bound in bounds if bound is not None), default=None)


class _UnreachedError(Exception):
    """A position that is not reached, and why."""


class _Reader:
    """How far a stream has been read."""

    def __init__(
        self,
        body: Body,
        source: Source,
        limit_s: float,
        ahead: int,
        synchronise: Callable[[], None],
        clock: Callable[[], float],
    ) -> None:
        self.body, self.source, self.limit_s, self.ahead = body, source, limit_s, ahead
        self.synchronise, self.clock, self.deadline = synchronise, clock, clock() + limit_s
        self.position = 0
        self.state: State = None  # of one stream
        self.grows = grows(body)
        self.fastest_s = 0.0  # per token of the fastest chunk: no later one is likely to be faster

    def snapshot(self, target: int) -> Snapshot:
        """Read up to a position."""
        while (left := target - 1 - self.position) > 0:
            self._give_up_if_hopeless(target, left)
            self._read_chunk(min(left, self._chunk_length()))
        self._give_up_if_too_large()
        begun = self.clock()
        _, states = self.body.step(self.source.token(), _of_rows(self.state, self.source.batch))
        self.synchronise()
        step_s = self.clock() - begun
        if self.ahead * step_s > self.limit_s:
            raise _UnreachedError(
                f"{self.ahead} steps after {target} tokens take longer than the time given to "
                f"reading: the first took {step_s:.3g} s"
            )
        self.state = _of_rows(states, 1)
        self.position = target
        return Snapshot(target, states, state_bytes(states))

    def _give_up_if_too_large(self) -> None:
        """Linux would end the process, and with it all that it has measured."""
        one = state_bytes(self.state)
        needed = N_COPIES * self.source.batch * one
        free = free_bytes() if self.source.generator.device.type == "cpu" else None
        if free is not None and needed > free:
            raise _UnreachedError(
                f"steps of {self.source.batch} states of {one} bytes after {self.position} tokens "
                f"need {needed} bytes, and {free} are free"
            )

    def _chunk_length(self) -> int:
        if not self.grows:
            return CHUNK_TOKENS
        return min(CHUNK_TOKENS, max(1, MASK_NUMBERS // max(1, self.position)))

    def _read_chunk(self, length: int) -> None:
        begun = self.clock()
        _, self.state = self.body(self.source(length), self.state)
        self.synchronise()
        pace_s = (self.clock() - begun) / length
        self.fastest_s = min(self.fastest_s or pace_s, pace_s)
        self.position += length

    def _give_up_if_hopeless(self, target: int, left: int) -> None:
        remaining_s = self.deadline - self.clock()
        if left * self.fastest_s > PATIENCE * remaining_s:
            raise _UnreachedError(
                f"{target} tokens take longer than the time given to reading: "
                f"{1e6 * self.fastest_s:.3g} us per token at best, by the parallel pass"
            )


def _of_rows(state: State, n_rows: int) -> State:
    """The state of the first row, for so many rows, each with memory of its own."""
    return pytree.tree_map_only(
        Tensor,
        lambda tensor: (
            tensor
            if len(tensor) == n_rows
            else tensor[:1].expand(n_rows, *tensor.shape[1:]).clone()
        ),
        state,
    )


def _reason(error: Exception, position: int) -> str:
    """Why reading ended after `position` tokens; raises what is no reason."""
    if isinstance(error, _UnreachedError):
        return str(error)
    if diagnose(error)[0] == "oom":
        return f"out of memory after {position} tokens"
    raise error
