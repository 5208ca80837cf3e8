"""The decoders of transformers whose past is not in the library's common cache, or not as it is.

Wolf et al. 2020, https://arxiv.org/abs/1910.03771.

B batch, T time, D width, L layers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from architectures.body import State, state_tensors
from architectures.layers.hf_cache import CacheMemory, contents
from architectures.layers.hf_memory import Memory, copied, rows_alone, stacked, tokens_kept


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

        new: Any = MiniMaxCache  # which has no types
        cache = new()
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
        new: Any = xLSTMCache  # which takes a device, whatever its types say
        cache = new(config, len(x), dtype=x.dtype, device=x.device)
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
