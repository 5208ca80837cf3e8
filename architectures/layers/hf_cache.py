"""The cache that most decoders of transformers have, turned into tensors and back.

Wolf et al. 2020, https://arxiv.org/abs/1910.03771.

B batch, T time.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from architectures.body import State, UnsupportedError
from architectures.layers.hf_memory import Layer, Memory, copied


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
