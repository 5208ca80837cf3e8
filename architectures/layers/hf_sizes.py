"""How the sizes of a small decoder of transformers follow from those of the harness.

Wolf et al. 2020, https://arxiv.org/abs/1910.03771. The rule, for every model type:

- `hidden_size`, `num_hidden_layers` and the numbers of heads are the harness's options;
- a width that is D in the model stays D, and a feed-forward width or a rank keeps its ratio to D;
- a head has D / H channels, of which latent attention turns half by position;
- a recurrence is as wide as `expand` times D, in H heads of one group, its state at most D;
- experts are at most 4, of which 2 are chosen;
- kinds of layers come in the model's own order; a kind that L layers would leave out takes the
  place of a last one.

D width, L layers, H heads.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

MAX_EXPERTS = 4
CHOSEN_EXPERTS = 2


@dataclass(frozen=True)
class Size:
    """The harness's sizes, beside a configuration with the library's."""

    width: int
    layers: int
    heads: int
    defaults: Any

    @property
    def head(self) -> int:
        """Channels of a head."""
        return self.width // self.heads

    @property
    def inner(self) -> int:
        """Channels of a recurrence."""
        expand = next(
            (
                getattr(self.defaults, name)
                for name in ("mamba_expand", "expand")
                if hasattr(self.defaults, name)
            ),
            2,
        )
        return int(expand * self.width)

    def scaled(self, value: int) -> int:
        """A size of the library's in the same ratio to this width: a multiple of 4."""
        ratio = self.width / int(self.defaults.hidden_size)
        return max(4, 4 * round(value * ratio / 4))


Rule: TypeAlias = Callable[[Size, Any], Any]


def _width(size: Size, value: int) -> int:
    return size.width


def _layers(size: Size, value: int) -> int:
    return size.layers


def _heads(size: Size, value: int) -> int:
    return size.heads


def _head(size: Size, value: int) -> int:
    return size.head


def _scaled(size: Size, value: Any) -> Any:
    return [size.scaled(value[0])] * size.layers if isinstance(value, list) else size.scaled(value)


def _rotated(size: Size, value: int) -> int:
    return max(2, size.head // 4 * 2)


def _inner(size: Size, value: int) -> int:
    return size.inner


def _inner_head(size: Size, value: int) -> int:
    return size.inner // size.heads


def _at_most_width(size: Size, value: int) -> int:
    return min(value, size.width)


def _time_step_rank(size: Size, value: int) -> int:
    return math.ceil(size.width / 16)


def _one(size: Size, value: int) -> int:
    return 1


def _few(size: Size, value: int) -> int:
    return min(value, MAX_EXPERTS)


def _chosen(size: Size, value: int) -> int:
    return min(value, CHOSEN_EXPERTS)


def _round(size: Size, value: int) -> int:
    return min(value, 4)


RULES: dict[str, Rule] = {
    **dict.fromkeys(
        [
            "d_model",
            "embedding_dim",
            "embedding_size",
            "emb_dim",
            "lru_width",
            "word_embed_proj_dim",
        ],
        _width,
    ),
    **dict.fromkeys(
        ["decoder_layers", "encoder_layers", "num_blocks", "num_decoder_layers"], _layers
    ),
    **dict.fromkeys(
        [
            "num_key_value_heads",
            "num_kv_heads",
            "num_heads",
            "decoder_attention_heads",
            "num_decoder_attention_heads",
            "encoder_attention_heads",
            "num_encoder_attention_heads",
            "mamba_n_heads",
            "mamba_num_heads",
            "n_mamba_heads",
            "linear_num_heads",
            "linear_num_key_heads",
            "linear_num_value_heads",
            "num_query_groups",
            "index_n_heads",
            "swa_num_attention_heads",
            "swa_num_key_value_heads",
            "o_groups",
        ],
        _heads,
    ),
    **dict.fromkeys(
        [
            "head_dim",
            "attention_head_dim",
            "swa_head_dim",
            "v_head_dim",
            "qk_nope_head_dim",
            "dim_head",
            "linear_key_head_dim",
            "linear_value_head_dim",
            "linear_head_dim",
            "index_head_dim",
            "kv_channels",
            "d_head",
            "attention_head_size",
        ],
        _head,
    ),
    **dict.fromkeys(
        [
            "intermediate_size",
            "moe_intermediate_size",
            "shared_expert_intermediate_size",
            "moe_shared_expert_intermediate_size",
            "shared_intermediate_size",
            "intermediate_size_mlp",
            "dense_intermediate_size",
            "ffn_hidden_size",
            "expert_ffn_hidden_size",
            "ffn_dim",
            "dim_ff",
            "dff",
            "decoder_ffn_dim",
            "encoder_ffn_dim",
            "feed_forward_size",
            "d_inner",
            "n_inner",
            "q_lora_rank",
            "kv_lora_rank",
            "o_lora_rank",
            "adapter_rank",
            "laurel_rank",
            "hidden_size_per_layer_input",
            "attention_hidden_size",
            "router_hidden_size",
            "hc_lowrank",
        ],
        _scaled,
    ),
    **dict.fromkeys(["qk_rope_head_dim", "rotary_dim"], _rotated),
    "mamba_d_ssm": _inner,
    **dict.fromkeys(["mamba_d_head", "mamba_head_dim", "mamba_headdim"], _inner_head),
    **dict.fromkeys(["state_size", "ssm_state_size", "mamba_d_state"], _at_most_width),
    **dict.fromkeys(["time_step_rank", "mamba_dt_rank"], _time_step_rank),
    **dict.fromkeys(
        [
            "n_groups",
            "mamba_n_groups",
            "mamba_ngroups",
            "n_group",
            "num_expert_group",
            "topk_group",
        ],
        _one,
    ),
    **dict.fromkeys(
        [
            "num_experts",
            "num_local_experts",
            "n_routed_experts",
            "moe_num_experts",
            "zero_expert_num",
        ],
        _few,
    ),
    **dict.fromkeys(
        ["num_experts_per_tok", "num_experts_per_token", "moe_topk", "moe_k"],
        _chosen,
    ),
    **dict.fromkeys(["ffn_round_up_to_multiple_of", "block_multiple_of"], _round),
}
"""How a field follows from the harness's sizes; a field that is None in the library stays so."""
