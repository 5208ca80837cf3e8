"""What a decoder of transformers remembers, as a value: its tensors out of its cache, and back.

Wolf et al. 2020, https://arxiv.org/abs/1910.03771. The library writes into its caches; a state is
copied into a new cache for every call, so that the state stays what it was.

B batch, T time, D width, L layers, H heads, d channels of a head, P tokens in a cache.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, TypeAlias

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks
from torch.nn.functional import pad

from architectures.body import State, UnsupportedError, state_tensors

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


class CacheMemory(Memory):
    """The library's cache with a layer of its own for each of the model's: attention to all
    tokens or to a window, a recurrence, or both.
    """

    def __init__(self, config: Any, argument: str = "past_key_values") -> None:
        super().__init__(config)
        self.argument = argument
        layers = self._new().layers
        for layer in layers:
            refuse_unknown(layer)
        self.recurrent = any(hasattr(layer, "conv_states") for layer in layers)
        self.n_attention = sum(has_keys(layer) for layer in layers)
        self.grows = self.n_attention > 0
        sliding = [getattr(layer, "sliding_window", None) for layer in layers]
        # What the next token will see beside itself.
        self.windows = [None if window is None else window - 1 for window in sliding]

    def filled(self, model: Any, layers: State, x: Tensor) -> Any:
        """A cache, with copies of a state's tensors if there is one."""
        cache = self._new()
        if layers is not None:
            for layer, tensors in zip(cache.layers, layers, strict=True):
                fill(layer, tensors)
        return cache

    def emptied(self, model: Any, kept: Any) -> State:
        """The tensors of each layer of the cache."""
        return tuple(contents(layer) for layer in kept.layers)

    def _new(self) -> Any:
        from transformers.cache_utils import DynamicCache

        return DynamicCache(config=self.config)


class PositionedMemory(CacheMemory):
    """The library's cache for a model that takes every call for a beginning unless it is told.

    `first_position` is the position of the first token.
    """

    def __init__(self, config: Any, first_position: int = 0) -> None:
        super().__init__(config)
        self.first_position = first_position

    def _positions(self, x: Tensor, layers: State) -> dict[str, Tensor]:
        first = self.first_position + (0 if layers is None else tokens_kept(layers))
        return {"position_ids": torch.arange(first, first + x.shape[1], device=x.device)[None]}


class MiniMaxMemory(Memory):
    """minimax's own cache: keys and values, or the matrix of linear attention of each head."""

    argument = "past_key_values"
    chunks = True

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        kinds = config.layer_types
        self.recurrent = "linear_attention" in kinds
        self.n_attention = kinds.count("full_attention")
        self.grows = self.n_attention > 0

    def filled(self, model: Any, layers: State, x: Tensor) -> Any:
        """The model's own cache, with copies of a state's tensors if there is one."""
        from transformers.models.minimax.modeling_minimax import MiniMaxCache

        # The library's class has no types.
        cache = MiniMaxCache()  # type: ignore[no-untyped-call]
        for index, layer in enumerate(() if layers is None else layers):
            if "recurrent" in layer:
                cache.set_linear_cache(index, layer["recurrent"].clone())
            else:
                cache.update(layer["keys"].clone(), layer["values"].clone(), index)
        return cache

    def emptied(self, model: Any, kept: Any) -> State:
        """The tensors of each layer."""
        return tuple(
            {"recurrent": kept.linear_cache[index]}
            if kind == "linear_attention"
            else contents(kept.layers[index])
            for index, kind in enumerate(self.config.layer_types)
        )


class GriffinMemory(CacheMemory):
    """The library's cache, and the states that recurrent_gemma keeps in its own modules."""

    def filled(self, model: Any, layers: State, x: Tensor) -> Any:
        """A cache, the modules holding copies of their states."""
        attention = (
            None
            if layers is None
            else tuple(
                {name: t for name, t in layer.items() if name in ("keys", "values", "n_read")}
                for layer in layers
            )
        )
        for layer, block in blocks(model):
            tensors = {} if layers is None else layers[layer]
            block.conv1d_state = copied(tensors.get("convolved"))
            block.rg_lru.recurrent_states = copied(tensors.get("recurrent"))
        return super().filled(model, attention, x)

    def emptied(self, model: Any, kept: Any) -> State:
        """The tensors of the cache and of the modules, which forget them."""
        layers = list(super().emptied(model, kept))
        for layer, block in blocks(model):
            layers[layer] = {
                "convolved": block.conv1d_state,
                "recurrent": block.rg_lru.recurrent_states,
            }
            block.conv1d_state = block.rg_lru.recurrent_states = None
        return tuple(layers)


class XlstmMemory(Memory):
    """The matrix C, the vector n and the scalar m of each head of xlstm's layers."""

    argument = "cache_params"
    chunks = True

    def filled(self, model: Any, layers: State, x: Tensor) -> Any:
        """The model's own cache; its sizes are the model's, where the library's are rounded."""
        from transformers.models.xlstm.modeling_xlstm import xLSTMCache

        config = self.config
        cache = xLSTMCache(config, len(x), dtype=x.dtype, device=x.device)
        heads = config.num_heads
        key, value = (
            int(config.hidden_size * factor) // heads
            for factor in (config.qk_dim_factor, config.v_dim_factor)
        )
        cache.rnn_state = {
            index: tuple(tensor.clone() for tensor in layers[index].values())
            if layers is not None
            else (
                x.new_zeros(len(x), heads, key, value),
                x.new_zeros(len(x), heads, key),
                x.new_zeros(len(x), heads, 1),
            )
            for index in range(config.num_hidden_layers)
        }
        return cache

    def emptied(self, model: Any, kept: Any) -> State:
        """The three states of each layer."""
        return tuple(
            dict(zip(("C", "n", "m"), states, strict=True)) for states in kept.rnn_state.values()
        )


class RwkvMemory(Memory):
    """The five tensors (B, D, L) of rwkv: the last token of both mixings, and three sums."""

    argument = "state"
    chunks = True

    def read(self, model: Any, x: Tensor, layers: State) -> tuple[Tensor, State]:
        """Map x (B, T, D) to y (B, T, D); single tokens row by row.

        Of a single token the library adds the last ones (B, D) to (B, 1, D), which mixes rows.
        """
        if x.shape[1] > 1 or len(x) == 1:
            return self._call(model, x, layers)
        rows = [
            self._call(model, x[row : row + 1], None if layers is None else rows_alone(layers, row))
            for row in range(len(x))
        ]
        return torch.cat([y for y, _ in rows]), stacked([kept for _, kept in rows])

    def filled(self, model: Any, layers: State, x: Tensor) -> Any:
        """Copies of the five, or those of the beginning: the sums in float32, at least."""
        if layers is not None:
            return [tensor.clone() for tensor in state_tensors(layers)]
        config = self.config
        widths = [config.hidden_size] * 2 + [config.attention_hidden_size] * 3
        state = [x.new_zeros(len(x), width, config.num_hidden_layers) for width in widths]
        state[2:] = [tensor.to(torch.promote_types(x.dtype, torch.float32)) for tensor in state[2:]]
        state[4] -= 1e30
        return state

    def emptied(self, model: Any, kept: Any) -> State:
        """The five tensors, as one layer."""
        names = ("channel_token", "time_token", "numerator", "denominator", "maximum")
        return (dict(zip(names, kept, strict=True)),)


OWN_MEMORIES: dict[str, Callable[[Any], Memory]] = {
    "bamba": PositionedMemory,
    **dict.fromkeys(
        [
            "camembert",
            "data2vec-text",
            "roberta",
            "roberta-prelayernorm",
            "xlm-roberta",
            "xlm-roberta-xl",
            "xmod",
        ],
        lambda config: PositionedMemory(config, config.pad_token_id + 1),
    ),
    "minimax": MiniMaxMemory,
    "recurrent_gemma": GriffinMemory,
    "rwkv": RwkvMemory,
    "xlstm": XlstmMemory,
}
"""The model types for which the library's cache as it is does not do."""


def blocks(model: Any) -> Iterator[tuple[int, Any]]:
    """The recurrent blocks of recurrent_gemma, with the numbers of their layers."""
    for index, layer in enumerate(model.layers):
        if hasattr(layer.temporal_block, "rg_lru"):
            yield index, layer.temporal_block


def has_keys(layer: Any) -> bool:
    """Whether a layer of a cache keeps keys and values of tokens."""
    return hasattr(layer, "get_seq_length")


def refuse_unknown(layer: Any) -> None:
    """Raise UnsupportedError for a layer of a cache that this file cannot turn into tensors."""
    from transformers import cache_utils

    known = (
        cache_utils.DynamicLayer,
        cache_utils.DynamicSlidingWindowLayer,
        cache_utils.DynamicIndexedLayer,
        cache_utils.LinearAttentionLayer,
        cache_utils.LinearAttentionAndFullAttentionLayer,
        cache_utils.LinearAttentionAndSlidingWindowAttentionLayer,
        cache_utils.DummyLayer,
    )
    if type(layer) not in known:
        raise UnsupportedError(f"it keeps its past in a {type(layer).__name__}")


def contents(layer: Any) -> Layer:
    """The tensors of one layer of a cache."""
    found: Layer = {}
    if getattr(layer, "keys", None) is not None and has_keys(layer):
        found |= {"keys": owned(layer.keys), "values": owned(layer.values)}
        if hasattr(layer, "sliding_window"):
            n_rows = len(layer.keys)
            found["n_read"] = torch.full(
                (n_rows,), layer.cumulative_length, device=layer.keys.device
            )
    if getattr(layer, "indexer_keys", None) is not None:
        found["indexer_keys"] = layer.indexer_keys
    for kind, states in states_of(layer):
        found |= {f"{kind}_{i}": state for i, state in states.items() if state is not None}
    return found


def fill(layer: Any, tensors: Layer) -> None:
    """Put copies of a state's tensors into an empty layer of a cache."""
    if "keys" in tensors:
        layer.lazy_initialization(tensors["keys"], tensors["values"])
        layer.keys, layer.values = tensors["keys"].clone(), tensors["values"].clone()
    if "n_read" in tensors:
        layer.cumulative_length = int(tensors["n_read"][0])
    if "indexer_keys" in tensors:
        layer.lazy_initialization_indexer(tensors["indexer_keys"])
        layer.indexer_keys = tensors["indexer_keys"].clone()
    for kind, states in states_of(layer):
        for i in states:
            state = copied(tensors.get(f"{kind}_{i}"))
            if state is None:
                continue
            states[i] = state
            getattr(layer, f"is_{kind}_states_initialized")[i] = True
            layer.has_previous_state[i] = True
            layer.device, layer.dtype = state.device, state.dtype
            if kind == "conv":
                layer.conv_kernel_size[i] = state.shape[-1]


def states_of(layer: Any) -> Iterator[tuple[str, dict[int, Tensor | None]]]:
    """The states of a layer's recurrences, by kind and number."""
    if hasattr(layer, "conv_states"):
        yield "conv", layer.conv_states
        yield "recurrent", layer.recurrent_states


def owned(tensor: Tensor) -> Tensor:
    """The tensor, or a copy if it is a view, which would keep all of a larger one in memory."""
    whole = tensor.untyped_storage().nbytes() == tensor.numel() * tensor.element_size()
    return tensor if whole else tensor.clone()


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
