"""What a decoder of transformers remembers, as a value: its tensors out of its cache, and back.

Wolf et al. 2020, https://arxiv.org/abs/1910.03771. The library writes into its caches; a state is
copied into a new cache for every call, so that the state stays what it was.

B batch, T time, D width, L layers, H heads, d channels of a head, P tokens in a cache.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, TypeAlias

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks
from torch.nn.functional import pad

from architectures.body import State

Layer: TypeAlias = dict[str, Tensor]
"""The tensors of a layer, batch first, by what they are."""

TOKEN_AXIS = {"keys": 2, "values": 2, "indexer_keys": 1}
"""The tensors of a layer that have an entry for every token, and along which axis."""


class Memory:
    """How a kind of model keeps its past. State: a `Layer` for each of its layers."""

    argument: str
    """The argument of the model that takes it."""

    recurrent = True
    """Whether a layer has a state that a next token overwrites."""

    grows = False
    """Whether a layer keeps something of every token, be it of a window."""

    chunks = False
    """Whether a recurrence carries on from a state with several tokens at once."""

    n_attention = 0
    """The layers that attend to what was read."""

    first_position = 0
    """The row of a table of positions that the first token takes, where it is not the first."""

    windows: Sequence[int | None] | None = None
    """The tokens that each layer keeps at most, if any is bounded."""

    def __init__(self, config: Any) -> None:
        self.config = config

    def filled(self, model: Any, layers: State, x: Tensor) -> Any:
        """What the model takes to carry on from a state, or to begin if it is None."""
        raise NotImplementedError

    def emptied(self, model: Any, kept: Any) -> State:
        """The state that a call has left."""
        raise NotImplementedError

    def read(self, model: Any, x: Tensor, layers: State) -> tuple[Tensor, State]:
        """Map x (B, T, D) to y (B, T, D); most recurrences carry on from a state token by token."""
        if layers is None or self.chunks or not self.recurrent or x.shape[1] == 1:
            return self._call(model, x, layers)
        outputs = []
        for x_t in x.split(1, dim=1):
            y_t, layers = self._call(model, x_t, layers)
            outputs.append(y_t)
        return torch.cat(outputs, dim=1), layers

    def _call(self, model: Any, x: Tensor, layers: State) -> tuple[Tensor, State]:
        arguments = {self.argument: self.filled(model, layers, x), **self._positions(x, layers)}
        with self._saved(layers):
            out = model(inputs_embeds=x, use_cache=True, **arguments)
        return out.last_hidden_state, self.emptied(model, arguments[self.argument])

    def _positions(self, x: Tensor, layers: State) -> dict[str, Tensor]:
        """What the model has to be told of the positions (1, T) of its tokens."""
        return {}

    def _saved(self, layers: State) -> AbstractContextManager[Any]:
        """The library writes over its recurrent states, of which gradients need the old ones."""
        overwrites = self.recurrent and (self.chunks or layers is not None)
        if overwrites and torch.is_grad_enabled():
            return saved_tensors_hooks(Tensor.clone, Tensor.detach)
        return nullcontext()


def copied(tensor: Tensor | None) -> Tensor | None:
    """A copy that an overwriting leaves alone."""
    return None if tensor is None else tensor.clone()


def rows_alone(
    layers: State, row: int, n_real: int = 0, windows: Sequence[int | None] | None = None
) -> State:
    """One row's layers, without the slots beyond the tokens that it has read."""

    def alone(name: str, tensor: Tensor, window: int | None) -> Tensor:
        tensor = tensor[row : row + 1]
        if name == "n_read":
            return torch.full_like(tensor, n_real)
        if name not in TOKEN_AXIS:
            return tensor
        n_slots = n_real if window is None else min(n_real, window)
        return tensor.narrow(TOKEN_AXIS[name], 0, n_slots)

    windows = windows or [None] * len(layers)
    return tuple(
        {name: alone(name, tensor, window) for name, tensor in layer.items()}
        for layer, window in zip(layers, windows, strict=True)
    )


def stacked(rows: list[State]) -> State:
    """The layers of single rows as those of a batch, what is kept of tokens padded at the end."""

    def joined(name: str, tensors: list[Tensor]) -> Tensor:
        if name in TOKEN_AXIS:
            axis = TOKEN_AXIS[name]
            n_slots = max(tensor.shape[axis] for tensor in tensors)
            behind = tensors[0].dim() - 1 - axis
            tensors = [pad(t, (*[0, 0] * behind, 0, n_slots - t.shape[axis])) for t in tensors]
        return torch.cat(tensors)

    return tuple(
        {name: joined(name, [layer[name] for layer in layers]) for name in layers[0]}
        for layers in zip(*rows, strict=True)
    )


def tokens_kept(layers: State) -> int:
    """The tokens that a layer with all of them has, or 0."""
    return max(
        (
            int(layer["n_read"][0]) if "n_read" in layer else layer["keys"].shape[2]
            for layer in layers
            if "keys" in layer
        ),
        default=0,
    )
