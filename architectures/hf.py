"""Decoders of the library transformers, built from their configuration classes, untrained:
Wolf et al. 2020, https://arxiv.org/abs/1910.03771.

B batch, T time, D width, L layers, H heads, d = D/H.
"""

from __future__ import annotations

import inspect
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.nn.functional import pad

from architectures.bidirectional import did_you_mean
from architectures.body import Body, State, real_positions, state_tensors
from architectures.layers.checks import check_at_least

# What of a model's own configuration the harness decides.
OWN_OPTIONS = {
    "hidden_size": "width",
    "num_hidden_layers": "layers",
    "num_attention_heads": "heads",
}
NO_TOKENS = {"vocab_size": 1, "bos_token_id": None, "eos_token_id": None, "pad_token_id": None}


class Hf(Body):
    """Any decoder of the library transformers, by its `model_type`: gpt2, llama, mamba, ...

    `config` sets fields of its configuration; dropout is 0 unless they say otherwise. `heads` has
    no part in a model without attention. State: (layers, n_read), the tensors of its cache, and
    the tokens (B,) of each row, or None where all rows have as many. Rows of different lengths run
    one by one. Some models compute parts in float32 whatever the dtype, llama's norms for example.
    """

    def __init__(
        self,
        width: int,
        *,
        model_type: str = "gpt2",
        layers: int = 2,
        heads: int = 4,
        config: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(width)
        check_at_least("layers", layers, 1)
        check_at_least("heads", heads, 1)
        self.model_type = model_type
        self.model = build_model(model_type, width, layers, heads, config or {})
        kinds = [cache_kind(layer, model_type) for layer in new_cache(self.model.config).layers]
        if len(set(kinds)) != 1:
            raise ValueError(f"unsupported: {model_type} mixes attention and recurrent layers")
        self.recurrent = "recurrent" in kinds
        self.state_grows = "keys" in kinds
        self.max_length = longest(self.model)

    def forward(
        self, x: Tensor, state: State = None, *, lengths: Tensor | None = None
    ) -> tuple[Tensor, State]:
        """Map x (B, T, D) to y (B, T, D)."""
        self.check_call(x, state, lengths)
        if state is not None and not (isinstance(state, tuple) and len(state) == 2):
            raise ValueError("the state of hf is (layers, n_read): pass one that it returned")
        if lengths is None and (state is None or state[1] is None):
            y, layers = self._run(x, None if state is None else state[0])
            return y, (layers, None)
        n_rows, length, _ = x.shape
        ends = x.new_full((n_rows,), length).long() if lengths is None else lengths
        x = x.masked_fill(~real_positions(ends, length).unsqueeze(2), 0.0)
        outputs, rows, counts = [], [], []
        for row, end in enumerate(ends.tolist()):
            before = None if state is None else row_of(state, row)
            y, layers = self._run(x[row : row + 1, :end], before)
            outputs.append(pad(y, (0, 0, 0, length - end)))
            rows.append(layers)
            n_before = 0 if state is None else n_tokens(state, row)
            counts.append(n_before + end)
        n_read = torch.tensor(counts, device=x.device)
        return torch.cat(outputs), (stack_rows(rows), n_read)

    def _run(self, x: Tensor, layers: State) -> tuple[Tensor, State]:
        """Rows of equally many tokens: a recurrent model reads on from a state token by token."""
        if layers is not None and self.recurrent and x.shape[1] > 1:
            outputs = []
            for x_t in x.split(1, dim=1):
                y_t, layers = self._call(x_t, layers)
                outputs.append(y_t)
            return torch.cat(outputs, dim=1), layers
        return self._call(x, layers)

    def _call(self, x: Tensor, layers: State) -> tuple[Tensor, State]:
        cache = new_cache(self.model.config)
        if layers is not None:
            fill(cache, layers)
        n_read = cache.get_seq_length() if self.state_grows else 0
        if self.max_length is not None and n_read + x.shape[1] > self.max_length:
            raise ValueError(
                f"{n_read + x.shape[1]} tokens are more than the {self.max_length} positions of "
                f"{self.model_type}: set config.max_position_embeddings to the longest sequence"
            )
        name = "cache_params" if self.recurrent else "past_key_values"
        # The library writes over its recurrent states, of which gradients need the old ones.
        overwrites = self.recurrent and layers is not None and torch.is_grad_enabled()
        with saved_tensors_hooks(Tensor.clone, Tensor.detach) if overwrites else nullcontext():
            try:
                out = self.model(inputs_embeds=x, use_cache=True, **{name: cache})
            except ValueError as error:  # of what the library itself does not support
                raise ValueError(f"unsupported: {self.model_type}: {error}") from None
        return out.last_hidden_state, contents(cache)

    @property
    def kernel(self) -> str:
        """The library's model; which of its paths runs, it alone knows."""
        return f"transformers-{self.model_type}"

    def flops_per_token(self, length: int) -> float:
        """2 for each weight of a matrix, and 4 T D a layer of attention; scans are not counted."""
        weights = sum(
            int(module.weight.numel())
            for module in self.model.modules()
            if isinstance(getattr(module, "weight", None), Tensor)
            and module.weight.dim() == 2
            and not isinstance(module, nn.Embedding)
        )
        n_attention = sum(
            cache_kind(layer, self.model_type) == "keys"
            for layer in new_cache(self.model.config).layers
        )
        return 2.0 * weights + 4.0 * length * self.width * n_attention

    @classmethod
    def width_multiple(cls, **options: Any) -> int:
        """An even number of channels for each head."""
        return 2 * int(options.get("heads", 4))


def build_model(
    model_type: str, width: int, layers: int, heads: int, config: dict[str, Any]
) -> Any:
    """The library's model without its token embeddings.

    Raises:
        ValueError: a model type or field that the library does not have, or cannot stream.
    """
    from transformers import AutoModel
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    decoders = sorted(set(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES) & set(CONFIG_MAPPING))
    if model_type not in decoders:
        raise ValueError(
            f"unsupported: transformers has no decoder {model_type!r}"
            f"{did_you_mean(model_type, decoders)}"
        )
    config_class = CONFIG_MAPPING[model_type]
    defaults = config_class()
    for name in config:
        if name in OWN_OPTIONS:
            raise ValueError(f"config.{name} is the option {OWN_OPTIONS[name]}: set that")
        if not hasattr(defaults, name):
            raise ValueError(f"the configuration of {model_type} has no field {name!r}")
    sizes = {"hidden_size": width, "num_hidden_layers": layers}
    if hasattr(defaults, "num_attention_heads"):
        sizes["num_attention_heads"] = heads
    if getattr(defaults, "num_key_value_heads", None) is not None:
        sizes["num_key_value_heads"] = heads
    quiet = {
        name: 0.0
        for name, value in vars(defaults).items()
        if ("dropout" in name or name.endswith("pdrop")) and isinstance(value, float)
    }
    reads = {"is_decoder": True} if hasattr(defaults, "is_decoder") else {}
    given = {**sizes, **quiet, **reads, **NO_TOKENS, **config}
    try:
        model = AutoModel.from_config(config_class(**given))  # type: ignore[no-untyped-call]
        model.set_input_embeddings(nn.Identity())
    except Exception as error:  # the library's models check their configuration in many ways
        raise ValueError(f"unsupported: {model_type}: {error}") from None
    if hasattr(defaults, "is_decoder") and not model.config.is_decoder:
        raise ValueError(f"unsupported: {model_type} is no decoder unless config.is_decoder is set")
    parameters = set(inspect.signature(model.forward).parameters)
    if "inputs_embeds" not in parameters or not parameters & {"past_key_values", "cache_params"}:
        raise ValueError(f"unsupported: {model_type} takes no embeddings or has no cache")
    return model


def longest(model: nn.Module) -> int | None:
    """The positions that a model has learned, or None if it has no such table."""
    for name, module in model.named_modules():
        if isinstance(module, nn.Embedding) and ("wpe" in name or "position" in name):
            return module.num_embeddings
    return None


def new_cache(config: Any) -> Any:
    """An empty cache with the layers that the configuration asks for."""
    from transformers.cache_utils import DynamicCache

    return DynamicCache(config=config)


def cache_kind(layer: Any, model_type: str) -> str:
    """Whether a cache's layer keeps "keys" of every token, or one "recurrent" state.

    Raises:
        ValueError: another kind, which this file does not know how to turn into tensors.
    """
    kind = type(layer).__name__
    if kind == "DynamicLayer":
        return "keys"
    if kind == "LinearAttentionLayer":
        return "recurrent"
    raise ValueError(f"unsupported: {model_type} keeps its past in a {kind}")


def contents(cache: Any) -> State:
    """The tensors of each layer of a cache, batch first."""
    return tuple(
        (layer.keys, layer.values)
        if hasattr(layer, "keys")
        else (layer.conv_states[0], layer.recurrent_states[0])
        for layer in cache.layers
    )


def fill(cache: Any, layers: State) -> None:
    """Put a state's tensors into an empty cache: copies, as the library writes into its own."""
    for layer, (first, second) in zip(cache.layers, layers, strict=True):
        if type(layer).__name__ == "DynamicLayer":
            layer.lazy_initialization(first, second)
            layer.keys, layer.values = first.clone(), second.clone()
        else:
            layer.conv_states[0], layer.recurrent_states[0] = first.clone(), second.clone()
            layer.is_conv_states_initialized[0] = True
            layer.is_recurrent_states_initialized[0] = True
            layer.has_previous_state[0] = True
            layer.conv_kernel_size[0] = first.shape[-1]
            layer.device, layer.dtype = first.device, first.dtype


def n_tokens(state: State, row: int) -> int:
    """How many tokens a row has read; 0 where a flat state does not say and need not."""
    layers, n_read = state
    if n_read is not None:
        return int(n_read[row])
    return max((first.shape[2] for first, _ in layers if first.dim() == 4), default=0)


def row_of(state: State, row: int) -> State:
    """One row's layers, without the slots beyond its tokens."""
    n_real = n_tokens(state, row)
    alone = slice(row, row + 1)
    return tuple(
        (first[alone, :, :n_real], second[alone, :, :n_real])
        if first.dim() == 4
        else (first[alone], second[alone])
        for first, second in state[0]
    )


def stack_rows(rows: list[State]) -> State:
    """The layers of single rows as those of a batch, keys padded to the longest."""
    n_slots = max(tensor.shape[2] for row in rows for tensor in state_tensors(row))
    return tuple(
        tuple(
            torch.cat(
                [pad(t, (0, 0, 0, n_slots - t.shape[2])) if t.dim() == 4 else t for t in part]
            )
            for part in zip(*layer, strict=True)
        )
        for layer in zip(*rows, strict=True)
    )
