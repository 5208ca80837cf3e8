"""A body's step as one CUDA graph: hundreds of kernels launched as one.

A step on one token is short, and on a GPU most of its time goes to launching kernels. A graph keeps
the launches with the addresses that they read and write, so token and state lie in buffers that
stay where they are: https://docs.pytorch.org/docs/stable/notes/cuda.html, "CUDA Graphs".

B batch, D width.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from architectures.body import Body, State, state_tensors

WARM_UP_STEPS = 3  # lazy allocations, autotuning and self-checks are over by then


class CaptureError(RuntimeError):
    """The step cannot be captured: it has to be run as it is. The message says why."""


class Graph(Protocol):
    """What a capture leaves: the launches, to be repeated."""

    def replay(self) -> None:
        """Repeat them."""


class GraphedStep:
    """`body.step` without gradients, captured once and replayed for each token.

    The state lies inside and moves on with each call; `state` copies it, `reset` sets it.

    Raises:
        ValueError: the body's state grows with the tokens read, or is None, or not on CUDA.
        CaptureError: the body does in its step what a graph cannot keep.
    """

    def __init__(self, body: Body, x_t: Tensor, state: State) -> None:
        """Capture the step for tokens like x_t (B, D), from a state that a first token left."""
        if any(inner.state_grows for inner in body.modules() if isinstance(inner, Body)):
            raise ValueError(
                f"the state of {type(body).__name__} grows with the tokens read, and a graph "
                "reads and writes buffers of one size: run its step as it is"
            )
        if next(state_tensors(state), None) is None:
            raise ValueError("there is no state: pass the one that a first token left")
        self._body = body
        self._x_t = x_t.detach().clone()
        self._y_t = torch.empty_like(self._x_t)
        self._state: State = pytree.tree_map(_own, state)
        self._graph = captured(self._run, x_t.device)
        self.reset(state)

    def __call__(self, x_t: Tensor) -> Tensor:
        """Map x_t (B, D) to y_t (B, D), which holds until the next call overwrites it."""
        _copy("x_t", self._x_t, x_t)
        self._graph.replay()
        return self._y_t

    @property
    def state(self) -> State:
        """A copy of the state after the last token."""
        return pytree.tree_map(_own, self._state)

    def reset(self, state: State) -> None:
        """Go on from another state of the same shapes."""
        self._move_to(state)

    @torch.no_grad()
    def _run(self) -> None:
        """One step from the buffers into the buffers."""
        y_t, state = self._body.step(self._x_t, self._state)
        _copy("y_t", self._y_t, y_t)
        self._move_to(state)

    def _move_to(self, state: State) -> None:
        mine, theirs = pytree.tree_flatten(self._state), pytree.tree_flatten(state)
        if mine[1] != theirs[1]:
            raise ValueError(f"the state is of another structure, {theirs[1]} and not {mine[1]}")
        # None of the new tensors may be overwritten before it is read.
        fresh = [x.clone() if _shares(x, mine[0]) else x for x in theirs[0]]
        for index, (buffer, new) in enumerate(zip(mine[0], fresh, strict=True)):
            if isinstance(buffer, Tensor):
                _copy(f"tensor {index} of the state", buffer, new)


def captured(run: Callable[[], None], device: torch.device) -> Graph:
    """Warm up on a side stream, as a capture asks, and capture the launches of `run`.

    Raises:
        ValueError: the device is not a CUDA device.
        CaptureError: a launch cannot be captured, or `run` waits for the device.
    """
    if device.type != "cuda":
        raise ValueError(f"a CUDA graph needs a CUDA device, and x_t is on {device}")
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.device(device):
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(WARM_UP_STEPS):
                run()
        torch.cuda.current_stream().wait_stream(side)
        try:
            with torch.cuda.graph(graph):
                run()
        except RuntimeError as error:
            reason = f"{type(error).__name__}: {error}".splitlines()[0]
            raise CaptureError(f"the step cannot be captured: {reason}") from error
    return graph


def _own(x: object) -> object:
    """A copy of a tensor; anything else as it is."""
    return x.detach().clone() if isinstance(x, Tensor) else x


def _shares(x: object, buffers: list[object]) -> bool:
    """Whether a tensor lies in the memory of one of the buffers."""
    if not isinstance(x, Tensor):
        return False
    storages = [b.untyped_storage().data_ptr() for b in buffers if isinstance(b, Tensor)]
    return x.untyped_storage().data_ptr() in storages


def _copy(name: str, buffer: Tensor, new: Tensor) -> None:
    if buffer.shape != new.shape or buffer.dtype != new.dtype:
        raise ValueError(
            f"{name} is {tuple(new.shape)} of {new.dtype}, but the graph was captured for "
            f"{tuple(buffer.shape)} of {buffer.dtype}"
        )
    buffer.copy_(new)
