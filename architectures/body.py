"""The contract of an architecture: a Body maps a sequence of vectors to a sequence of vectors.

Embedding and head belong to the harness and are equal for all; position belongs to the body.

B batch, T time, D width.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from architectures.kernels.paths import Paths, name_of, recorded

PROBE_TOKENS = 64
"""Of the sequence that is run to see which paths it takes; some choose by the length."""

State: TypeAlias = Any
"""A pytree of tensors (None, a tensor, or tuples, lists and dicts of them), batch first."""


class UnsupportedError(ValueError):
    """The architecture cannot do what was asked, and no other value of an option would help.

    A run that meets it ends as a row with status `unsupported` and this reason; it does not keep
    a study from running.
    """


@dataclass(frozen=True, kw_only=True)
class ParamGroup:
    """Parameters for which a paper asks another learning rate or weight decay than the run's."""

    parameters: tuple[nn.Parameter, ...]
    weight_decay: float | None = None  # None: the run's
    learning_rate_scale: float = 1.0  # times the run's
    max_learning_rate: float | None = None  # None: no bound


class Body(nn.Module):
    """A sequence model without embedding and head: x (B, T, D) and state to y (B, T, D) and state.

    Every body keeps these laws (tests/test_laws.py runs them on all that are registered):

    - a sequence in one piece, in chunks with carried state, and token by token give the same y;
    - if `causal`, no output depends on a later input;
    - rows of a batch do not mix, and what lies beyond `lengths` changes nothing before it;
    - the state is returned and never mutated.

    The keyword-only arguments of `__init__` are the architecture's options, with their types and
    defaults; the first argument is the width D. The docstring's first line is its description in
    `bench list`.
    """

    causal: bool = True
    """Whether output t depends on the inputs up to t alone."""

    state_grows: bool = False
    """Whether the state's size grows with the tokens read, as attention's cache does."""

    max_length: int | None = None
    """The most tokens that a sequence may have, where positions are learned."""

    def __init__(self, width: int) -> None:
        super().__init__()
        if width < 1:
            raise ValueError(f"width must be at least 1, not {width}")
        self.width = width

    def forward(
        self, x: Tensor, state: State = None, *, lengths: Tensor | None = None
    ) -> tuple[Tensor, State]:
        """Map x (B, T, D) to y (B, T, D).

        `state` is what an earlier call returned (None: the beginning of the sequence). `lengths`
        (B,) counts the tokens of each row that are real, 1 <= lengths <= T: the returned state is
        that after the last real token, and y is undefined beyond it.
        """
        raise NotImplementedError

    def step(self, x_t: Tensor, state: State = None) -> tuple[Tensor, State]:
        """Map one token x_t (B, D) to y_t (B, D): `forward` at T = 1, overridden only for speed."""
        y, state = self.forward(x_t.unsqueeze(1), state)
        return y.squeeze(1), state

    @property
    def decodes(self) -> bool:
        """Whether `decode` can write an answer symbol by symbol."""
        return self.causal

    def encode(self, x: Tensor, *, lengths: Tensor | None = None) -> State:
        """Read a source x (B, T, D) of `lengths` (B,) tokens: the state that `decode` begins from.

        A causal body simply reads on: source, then answer, are one sequence to it.
        """
        _, state = self(x, lengths=lengths)
        return state

    def decode(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        """Map the answer so far x (B, S, D), after its source, to y (B, S, D) and the state."""
        y, state = self(x, state)
        return y, state

    def decode_step(self, x_t: Tensor, state: State) -> tuple[Tensor, State]:
        """Map one symbol of the answer x_t (B, D) to y_t (B, D): `decode` at S = 1."""
        return self.step(x_t, state)

    def check_call(self, x: Tensor, state: State, lengths: Tensor | None) -> None:
        """Raise ValueError if x is not (B, T, D), or state or lengths are not of its batch."""
        if x.dim() != 3:
            raise ValueError(f"x must be (batch, time, width), not of shape {tuple(x.shape)}")
        n_rows, length, width = x.shape
        if width != self.width:
            raise ValueError(f"this body has width {self.width}, but x has width {width}")
        if not x.is_floating_point():
            raise ValueError(f"x must be of floating-point numbers, not of {x.dtype}")
        if n_rows < 1:
            raise ValueError("x has no rows: its batch dimension is 0, and must be at least 1")
        if length < 1:
            raise ValueError("x has no tokens: its time dimension is 0, and must be at least 1")
        for tensor in state_tensors(state):
            if tensor.shape[0] != n_rows:
                raise ValueError(
                    f"the state is of a batch of {tensor.shape[0]}, but x is of a batch of "
                    f"{n_rows}: pass the state of the same rows, or None to begin anew"
                )
        if lengths is None:
            return
        if lengths.shape != (n_rows,) or lengths.is_floating_point():
            raise ValueError(f"lengths must be {n_rows} whole numbers, not {lengths!r}")
        # On an accelerator, reading the values would make the host wait for the device.
        if lengths.device.type == "cpu" and not bool(((lengths >= 1) & (lengths <= length)).all()):
            raise ValueError(f"lengths must lie between 1 and {length}: {lengths.tolist()}")

    @property
    def kernel(self) -> str:
        """The implementation that runs on the present device and dtype, as the row names it.

        The distinct paths of the operations that decide speed (kernels/paths.py), found by running.
        """
        return name_of(self.kernel_paths())

    def kernel_paths(self, *, padded: bool = False) -> Paths:
        """Each operation and its path, seen while a short sequence is read and walked back.

        The sequence is one row of PROBE_TOKENS, or two of different `lengths` if it is `padded`, in
        training mode and under the caller's autocast. The body is left as it was: weights,
        gradients, buffers, mode, and the random numbers to come.
        """
        weight = next((p for p in self.parameters() if p.is_floating_point()), torch.empty(0))
        length = min(PROBE_TOKENS, self.max_length or PROBE_TOKENS)
        x = torch.linspace(-1.0, 1.0, length * self.width).view(1, length, self.width)
        # Rows of one length may be taken for unpadded ones.
        x = x.repeat(2 if padded else 1, 1, 1)
        x = x.to(device=weight.device, dtype=weight.dtype).requires_grad_()
        lengths = torch.tensor([length, -(-length // 2)], device=x.device) if padded else None
        with _untouched(self, x.device), torch.enable_grad(), recorded() as paths:
            y, _ = self(x, lengths=lengths)
            if y.requires_grad:
                torch.autograd.grad(y, x, torch.ones_like(y), allow_unused=True)
        return paths

    def flops_per_token(self, length: int) -> float:
        """Floating-point operations of the forward pass per token at T = `length`.

        A multiplication and an addition are two. Matrix products, scans, convolutions and
        attention count; norms, activations and biases do not.
        """
        raise NotImplementedError

    def param_groups(self) -> list[ParamGroup]:
        """Parameters with their own learning rate or decay: by default, of the bodies inside."""
        return [group for body in self.inner_bodies() for group in body.param_groups()]

    def inner_bodies(self) -> Iterator[Body]:
        """The bodies directly inside this one."""
        stack: list[nn.Module] = list(self.children())[::-1]
        while stack:
            module = stack.pop()
            if isinstance(module, Body):
                yield module
            else:
                stack.extend(list(module.children())[::-1])

    @classmethod
    def width_multiple(cls, **options: Any) -> int:
        """Widths have to be multiples of this, given the options (heads, for instance)."""
        return 1


@contextmanager
def _untouched(body: Body, device: torch.device) -> Iterator[None]:
    """Training mode inside; afterwards modes, buffers and random numbers are as before."""
    modes = [(module, module.training) for module in body.modules()]
    buffers = [(buffer, buffer.clone()) for buffer in body.buffers()]
    accelerated = device.type != "cpu"
    devices = [device] if accelerated else []
    with torch.random.fork_rng(devices, device_type=device.type if accelerated else "cuda"):
        body.train()
        try:
            yield
        finally:
            for module, mode in modes:
                module.training = mode
            with torch.no_grad():
                for buffer, before in buffers:
                    buffer.copy_(before)


def real_positions(lengths: Tensor, length: int) -> Tensor:
    """Mask (B, T), true at the tokens before `lengths` (B,)."""
    return torch.arange(length, device=lengths.device) < lengths.unsqueeze(1)


def state_tensors(state: State) -> Iterator[Tensor]:
    """The tensors of a state, in order."""
    if isinstance(state, Tensor):
        yield state
    elif isinstance(state, dict):
        for value in state.values():
            yield from state_tensors(value)
    elif isinstance(state, tuple | list):
        for value in state:
            yield from state_tensors(value)


def state_bytes(state: State) -> int:
    """The bytes of memory that a state keeps: a small view of a large tensor keeps all of it."""
    storages = [tensor.untyped_storage() for tensor in state_tensors(state)]
    return sum({storage.data_ptr(): storage.nbytes() for storage in storages}.values())
