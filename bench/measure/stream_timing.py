"""The time of single steps at positions of a stream, and how far a stream drifts from one pass.

Every step is timed alone and synchronised, because that is what a stream waits for. Blocks of steps
begin at a position's state, which is a value and can be begun from again and again; the positions
take turns, so that a drift of the machine hits all of them alike. Blocks during which the thread
waited for a CPU are rejected and counted.

B batch, T time, D width.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from architectures.body import Body, State
from bench.measure.resampling import Floats
from bench.measure.stream_reading import Snapshot, grows

BLOCK_STEPS = 16
AHEAD = BLOCK_STEPS + 1
"""Tokens that are read after a position: the first one fetches its state and is not timed."""
MAX_BLOCKS = 200
STOLEN = 0.02
"""The share of a block spent waiting for a CPU above which it is rejected."""
PATIENCE = 4.0
"""How many times the agreed time a busy machine is given, before rejected blocks are used."""
GRAPH_STEPS = 3
GRAPH_ERROR = {torch.float64: 1e-9, torch.float32: 1e-3}  # relative; of lower precisions 0.1
"""A replayed step runs the same kernels: what is more wrong than this has frozen something."""


class Stepper(Protocol):
    """Takes single steps from a state that it is given."""

    method: str

    def begin(self, state: State) -> None:
        """Go on from a state."""

    def __call__(self, x_t: Tensor) -> Tensor:
        """Map one token x_t (B, D) to y_t (B, D)."""


class PlainStep:
    """`body.step`, call by call."""

    method = "step"

    def __init__(self, body: Body) -> None:
        self.body = body
        self.state: State = None

    def begin(self, state: State) -> None:
        """Go on from a state."""
        self.state = state

    def __call__(self, x_t: Tensor) -> Tensor:
        """Map one token x_t (B, D) to y_t (B, D)."""
        y_t, self.state = self.body.step(x_t, self.state)
        return y_t


class ReplayedStep:
    """The step as a CUDA graph, which is set to a state by copying it."""

    method = "cuda-graph"

    def __init__(self, graphed: Any) -> None:
        self.graphed = graphed

    def begin(self, state: State) -> None:
        """Go on from a state."""
        self.graphed.reset(state)

    def __call__(self, x_t: Tensor) -> Tensor:
        """Map one token x_t (B, D) to y_t (B, D), which the next call overwrites."""
        y_t: Tensor = self.graphed(x_t)
        return y_t


def stepper_for(
    body: Body, states: Sequence[State], x_t: Tensor, device: torch.device
) -> tuple[Stepper, str]:
    """What takes the steps from all of these states, and why it is no CUDA graph, if that is so."""
    plain = PlainStep(body)
    if device.type != "cuda":
        return plain, "a CUDA graph needs a CUDA device"
    if grows(body):
        return plain, "the state grows with the tokens read, and a graph's buffers do not"
    from architectures.kernels.cuda.graphs import (
        CaptureError,
        GraphedStep,
    )

    try:
        replayed = ReplayedStep(GraphedStep(body, x_t, states[0]))
        for state in states:
            replayed.begin(state)
    except (CaptureError, ValueError) as error:
        return plain, str(error)
    wrong = _graph_error(plain, replayed, states[-1], x_t)
    if not wrong <= GRAPH_ERROR.get(x_t.dtype, 0.1):
        return plain, f"the graph's outputs differ from the step's by {wrong:.2g}"
    return replayed, ""


def _graph_error(plain: Stepper, replayed: Stepper, state: State, x_t: Tensor) -> float:
    """The largest relative error of some replayed steps; a frozen counter shows here."""
    both = []
    for stepper in (plain, replayed):
        stepper.begin(state)
        both.append(torch.stack([stepper(x_t).clone() for _ in range(GRAPH_STEPS)]))
    return relative_difference(both[1], both[0])


@dataclass
class Lane:
    """A position, and the seconds of its steps by block."""

    snapshot: Snapshot
    accepted: list[list[float]] = field(default_factory=list)
    rejected: list[list[float]] = field(default_factory=list)

    @property
    def blocks(self) -> Floats:
        """Seconds (n_blocks, BLOCK_STEPS); the rejected ones too where few others are left."""
        few = len(self.accepted) < 3
        return np.asarray(self.accepted + self.rejected if few else self.accepted)


def time_steps(
    stepper: Stepper,
    lanes: Sequence[Lane],
    tokens: Sequence[Tensor],
    *,
    seconds: float,
    min_rounds: int,
    synchronise: Callable[[], None],
    clock: Callable[[], float],
) -> None:
    """Time blocks of every lane in turns, `seconds` per lane; tokens are AHEAD of x_t (B, D)."""
    budget = seconds * len(lanes)
    begun = clock()
    while True:
        for lane in lanes:
            _time_block(stepper, lane, tokens, synchronise, clock)
        spent = clock() - begun
        accepted = min(len(lane.accepted) for lane in lanes)
        done = min(len(lane.accepted) + len(lane.rejected) for lane in lanes)
        enough = spent >= budget and accepted >= min_rounds
        if enough or done >= MAX_BLOCKS or (spent >= PATIENCE * budget and done >= min_rounds):
            return


def _time_block(
    stepper: Stepper,
    lane: Lane,
    tokens: Sequence[Tensor],
    synchronise: Callable[[], None],
    clock: Callable[[], float],
) -> None:
    stepper.begin(lane.snapshot.state)
    stepper(tokens[0])
    synchronise()
    seconds = []
    waited = _waited_for_cpu_s()
    before = clock()
    for x_t in tokens[1:]:
        stepper(x_t)
        synchronise()
        now = clock()
        seconds.append(now - before)
        before = now
    lost = _waited_for_cpu_s() - waited > STOLEN * sum(seconds)
    (lane.rejected if lost else lane.accepted).append(seconds)


def _waited_for_cpu_s() -> float:
    """Seconds that this thread has waited on a run queue; 0 where Linux does not say.

    A short block has no time to ask all threads.
    """
    try:
        return int(Path("/proc/thread-self/schedstat").read_text().split()[1]) / 1e9
    except (OSError, IndexError):
        return 0.0


def drift(body: Body, x: Tensor, window: int) -> float:
    """How far a stream is from the parallel pass over x (B, T, D), in its last `window` tokens.

    The largest difference by the largest output of the window.
    """
    whole = body(x)[0][:, -window:]  # (B, W, D)
    state: State = None
    streamed: list[Tensor] = []
    for t in range(x.shape[1]):
        y_t, state = body.step(x[:, t], state)
        if t >= x.shape[1] - window:
            streamed.append(y_t)
    return relative_difference(torch.stack(streamed, dim=1), whole)


def relative_difference(actual: Tensor, expected: Tensor) -> float:
    """The largest difference, divided by the largest expected value unless that is 0."""
    actual, expected = actual.double(), expected.double()
    scale = expected.abs().max().item() or 1.0
    return (actual - expected).abs().max().item() / scale
