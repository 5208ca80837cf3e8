"""Decoders of the library transformers, built from their configuration classes, untrained:
Wolf et al. 2020, https://arxiv.org/abs/1910.03771.

B batch, T time, D width, L layers, H heads, d = D/H.
"""

from __future__ import annotations

import inspect
import json
import math
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from architectures.body import Body, State, UnsupportedError, real_positions
from architectures.kernels.paths import note
from architectures.layers.checks import check_at_least
from architectures.layers.hf_cache import CacheMemory
from architectures.layers.hf_config import configuration, first_line
from architectures.layers.hf_memory import Memory, rows_alone, stacked, tokens_kept
from architectures.layers.hf_own_cache import OWN_MEMORIES
from architectures.layers.hf_probe import fault

CACHE_ARGUMENTS = ("past_key_values", "cache_params", "state")
TABLES_WITHOUT_MODULE = ("codegen", "gptj", "mpt")  # of positions, as long as they are stated
PROBED_HEAD = 8  # channels of a head in the model that is tried
# What a library's code may raise of a configuration that it cannot build. What an allocator says
# is a RuntimeError, and stays one.
LIBRARY_ERRORS = (
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    ArithmeticError,
    AssertionError,
    ImportError,
    NotImplementedError,
)


class Hf(Body):
    """Any decoder of the library transformers, by its `model_type`: gpt2, llama, mamba, ...

    Its sizes follow from width, layers and heads (architectures/layers/hf_sizes.py); `config`
    sets any other field of its configuration, and dropout is 0 unless it says otherwise. A model
    that is not causal, or does not carry on from its cache, is refused: each is tried once, small.

    State: (layers, n_read), the tensors of the model's cache, and the tokens (B,) of each row, or
    None where all rows have as many. A layer with a window keeps its tokens up to the window.
    Rows of different length run one by one, and a model with recurrent layers carries on token by
    token. Some models compute parts in float32 whatever the dtype, llama's norms for example.
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
        made = configuration(model_type, width, layers, heads, config or {})
        self.model = build(model_type, made)
        self.memory = memory_of(self.model, model_type)
        self.experts = getattr(self.model.config, "_experts_implementation", None)
        self.state_grows = self.memory.grows
        self.max_length, self.length_field = longest(self.model, self.memory)
        reason = fault_of(
            model_type, width, layers, heads, json.dumps(config or {}, sort_keys=True)
        )
        if reason:
            raise UnsupportedError(f"{model_type}: {reason}")

    def forward(
        self, x: Tensor, state: State = None, *, lengths: Tensor | None = None
    ) -> tuple[Tensor, State]:
        """Map x (B, T, D) to y (B, T, D)."""
        self.check_call(x, state, lengths)
        if state is not None and not (isinstance(state, tuple) and len(state) == 2):
            raise ValueError("the state of hf is (layers, n_read): pass one that it returned")
        if lengths is None and (state is None or state[1] is None):
            y, layers = self._read(x, None if state is None else state[0])
            return y, (layers, None)
        n_rows, length, _ = x.shape
        ends = x.new_full((n_rows,), length).long() if lengths is None else lengths
        x = x.masked_fill(~real_positions(ends, length).unsqueeze(2), 0.0)
        before = self._counts(state, n_rows)
        outputs, rows = [], []
        for row, end in enumerate(ends.tolist()):
            alone = (
                None
                if state is None
                else rows_alone(state[0], row, before[row], self.memory.windows)
            )
            y, layers = self._read(x[row : row + 1, :end], alone)
            outputs.append(pad(y, (0, 0, 0, length - end)))
            rows.append(layers)
        n_read = ends + torch.tensor(before, device=x.device)
        return torch.cat(outputs), (stacked(rows), n_read)

    def _counts(self, state: State, n_rows: int) -> list[int]:
        """The tokens that each row has read; 0 where a flat state does not say and need not."""
        if state is None:
            return [0] * n_rows
        layers, n_read = state
        counts: list[int] = [tokens_kept(layers)] * n_rows if n_read is None else n_read.tolist()
        return counts

    def _read(self, x: Tensor, layers: State) -> tuple[Tensor, State]:
        """Rows of equally many tokens."""
        n_read = 0 if layers is None else tokens_kept(layers)
        if self.max_length is not None and n_read + x.shape[1] > self.max_length:
            raise ValueError(
                f"{n_read + x.shape[1]} tokens are more than the {self.max_length} positions of "
                f"{self.model_type}: set config.{self.length_field} to the longest sequence"
            )
        if self.experts is not None:
            # The library's product of groups, its default, has no float64.
            in_float64 = x.dtype == torch.float64
            self.model.config._experts_implementation = "eager" if in_float64 else self.experts
        # Of its paths some are torch's, which are seen; of the others it alone knows.
        note("model", f"transformers-{self.model_type}")
        return self.memory.read(self.model, x, layers)

    def flops_per_token(self, length: int) -> float:
        """2 for each weight of a matrix, and 4 T D a layer of attention; scans are not counted.

        Of experts all are counted, chosen or not.
        """
        weights = sum(
            int(module.weight.numel())
            for module in self.model.modules()
            if isinstance(getattr(module, "weight", None), Tensor)
            and module.weight.dim() == 2
            and not isinstance(module, nn.Embedding)
        )
        return 2.0 * weights + 4.0 * length * self.width * self.memory.n_attention

    @classmethod
    def width_multiple(cls, **options: Any) -> int:
        """An even number of channels for each head."""
        return 2 * int(options.get("heads", 4))


def build(model_type: str, config: Any) -> Any:
    """The library's decoder without its token embeddings and without its head.

    Raises:
        UnsupportedError: the library cannot build it, or it takes no embeddings.
    """
    from transformers import AutoModelForCausalLM, PreTrainedModel

    new: Any = AutoModelForCausalLM.from_config  # which has no types
    try:
        whole = new(config)
        model = whole.get_decoder()
        if not isinstance(model, PreTrainedModel) or model is whole:
            model = getattr(whole, "model", whole.base_model)
        model.set_input_embeddings(nn.Identity())
    except LIBRARY_ERRORS as error:
        raise UnsupportedError(f"{model_type}: {first_line(error)}") from None
    return model


def memory_of(model: Any, model_type: str) -> Memory:
    """How a model keeps its past.

    Raises:
        UnsupportedError: it takes no embeddings, or keeps no past in a way known here.
    """
    parameters = set(inspect.signature(model.forward).parameters)
    if "inputs_embeds" not in parameters:
        raise UnsupportedError(f"{model_type} takes tokens alone, no embeddings")
    argument = next((name for name in CACHE_ARGUMENTS if name in parameters), None)
    if argument is None:
        raise UnsupportedError(f"{model_type} has no cache")
    try:
        if model_type in OWN_MEMORIES:
            return OWN_MEMORIES[model_type](model.config)
        return CacheMemory(model.config, argument)
    except UnsupportedError as error:
        raise UnsupportedError(f"{model_type}: {error}") from None
    except LIBRARY_ERRORS as error:
        raise UnsupportedError(f"{model_type}: {first_line(error)}") from None


@cache
def fault_of(model_type: str, width: int, layers: int, heads: int, config: str) -> str:
    """What keeps a model type from being a body, tried on a small one, whatever the width.

    `config` is JSON. If a small one cannot be built with it, one of this width is.
    """
    given = json.loads(config)
    small = heads * PROBED_HEAD
    for probed in dict.fromkeys((min(small, width), width)):
        # Weights that are drawn afterwards must not depend on whether this is the first trial.
        with torch.device("cpu"), torch.random.fork_rng(devices=[]):
            try:
                made = configuration(model_type, probed, layers, heads, given)
                model = build(model_type, made)
                memory = memory_of(model, model_type)
                return fault(model, memory, probed, longest(model, memory)[0])
            except (*LIBRARY_ERRORS, RuntimeError) as error:
                reason = first_line(error)
    return reason


def longest(model: Any, memory: Memory) -> tuple[int | None, str]:
    """The tokens for which a model has positions in a table, or None, and the field for it."""
    config = model.config
    field = "max_seq_len" if hasattr(config, "max_seq_len") else "max_position_embeddings"
    tables = [
        module.num_embeddings - memory.first_position
        for name, module in model.named_modules()
        if isinstance(module, nn.Embedding) and ("wpe" in name or "position" in name)
    ]
    if not tables and config.model_type not in TABLES_WITHOUT_MODULE:
        return None, field
    return int(min(*tables, getattr(config, field, math.inf), math.inf)), field
