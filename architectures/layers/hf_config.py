"""Small configurations of the decoders of transformers, whose defaults are those of large models.

Wolf et al. 2020, https://arxiv.org/abs/1910.03771. Sizes follow the rule of
architectures/layers/hf_sizes.py; what a model type needs besides stands here.

L layers.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from architectures.bidirectional import did_you_mean
from architectures.body import UnsupportedError
from architectures.layers.hf_sizes import CHOSEN_EXPERTS, RULES, Size

# What of a model's own configuration the harness decides.
OWN_OPTIONS = {
    "hidden_size": "width",
    "num_hidden_layers": "layers",
    "num_attention_heads": "heads",
}
SPECIAL: dict[str, Callable[[Size], dict[str, Any]]] = {
    "bamba": lambda size: {"attn_layer_indices": [size.layers - 1] if size.layers > 1 else []},
    "deepseek_v2": lambda size: {"num_experts_per_tok": CHOSEN_EXPERTS},
    "falcon": lambda size: {"multi_query": False},
    "gemma3n_text": lambda size: {
        "num_kv_shared_layers": 0,
        "vocab_size_per_layer_input": 1,
        "activation_sparsity_pattern": [0.0] * size.layers,
    },
    "gemma4_text": lambda size: {
        "global_head_dim": size.head,
        "hidden_size_per_layer_input": 0,
    },
    "gemma4_unified_text": lambda size: {"global_head_dim": size.head},
    "gpt_neo": lambda size: {
        "attention_types": [[["global", "local"], math.ceil(size.layers / 2)]],
        "attention_layers": (["global", "local"] * size.layers)[: size.layers],
    },
    "granitemoehybrid": lambda size: {"layer_types": last(size, "linear_attention")},
    "jamba": lambda size: {"attn_layer_period": 2, "attn_layer_offset": 1},
    "lfm2": lambda size: {"layer_types": last(size, "conv")},
    "lfm2_moe": lambda size: {"layer_types": last(size, "conv")},
    "mamba2": lambda size: {"head_dim": size.inner // size.heads},
    "nemotron": lambda size: {"num_key_value_heads": size.heads},
    "reformer": lambda size: {"axial_pos_embds": False},
    "rembert": lambda size: {
        "input_embedding_size": size.width,
        "output_embedding_size": size.width,
    },
    "roc_bert": lambda size: {
        "enable_pronunciation": False,
        "enable_shape": False,
        "pronunciation_vocab_size": 1,
        "shape_vocab_size": 1,
    },
    # Layers 6, 12, 18 and so on halve the values, in evaluation alone.
    "rwkv": lambda size: {"rescale_every": 0},
    "xlstm": lambda size: {"autocast_kernel_dtype": "float32"},
    "xmod": lambda size: {"default_language": "en_XX"},
    "zamba2": lambda size: {
        "layers_block_type": (["linear_attention", "hybrid"] * size.layers)[: size.layers]
    },
}
"""What single model types need besides."""

NOISES = ("dropout", "pdrop", "jitter")
"""The fields of what is drawn at random in training, 0 unless they are given."""

KINDS = ("layer_types", "layers_block_type", "mlp_layer_types", "block_types")
"""The fields that list a kind for every layer."""


def configuration(
    model_type: str, width: int, layers: int, heads: int, given: dict[str, Any]
) -> Any:
    """The library's configuration of a small decoder; `given` overrides what the rule says.

    Raises:
        ValueError: a model type or a field that the library does not have.
        UnsupportedError: the library has no such decoder, or refuses the configuration.
    """
    config_class = decoder_class(model_type)
    try:
        defaults = config_class()
    except Exception as error:  # the library's configurations check themselves in many ways
        raise UnsupportedError(f"{model_type}: {first_line(error)}") from None
    for name in given:
        if name in OWN_OPTIONS:
            raise ValueError(f"config.{name} is the option {OWN_OPTIONS[name]}: set that")
        if not hasattr(defaults, name):
            raise ValueError(f"the configuration of {model_type} has no field {name!r}")
    refuse_parts(model_type, defaults)
    size = Size(width, layers, heads, defaults)
    try:
        fields = {**small(model_type, size), **given}
        config = config_class(**fields)
        changed = left_out(config, size)
        if changed:
            config = config_class(**{**fields, **changed, **given})
    except Exception as error:  # as above
        raise UnsupportedError(f"{model_type}: {first_line(error)}") from None
    return config


def decoder_class(model_type: str) -> Any:
    """The configuration class of a decoder of the library."""
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    decoders = sorted(set(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES) & set(CONFIG_MAPPING))
    if model_type in decoders:
        return CONFIG_MAPPING[model_type]
    if model_type in CONFIG_MAPPING:
        raise UnsupportedError(f"transformers has {model_type}, but not as a decoder")
    raise ValueError(
        f"transformers has no decoder {model_type!r}{did_you_mean(model_type, decoders)}"
    )


def refuse_parts(model_type: str, defaults: Any) -> None:
    """Raise UnsupportedError for a model of several parts, text and images for example."""
    parts = {
        name: getattr(defaults, name)
        for name in getattr(defaults, "sub_configs", {})
        if name not in ("attn_config", "ffn_config")
    }
    if parts:
        text = getattr(parts.get("text_config"), "model_type", None)
        hint = f": take {text}, its decoder of text" if text else ""
        raise UnsupportedError(f"{model_type} is built from {', '.join(parts)}{hint}")


def small(model_type: str, size: Size) -> dict[str, Any]:
    """The fields of a configuration that do not keep the library's values."""
    defaults = size.defaults
    own = {"hidden_size": size.width, "num_hidden_layers": size.layers}
    if hasattr(defaults, "num_attention_heads"):
        own["num_attention_heads"] = size.heads
    own = {type(defaults).attribute_map.get(name, name): value for name, value in own.items()}
    values = vars(defaults)
    sizes = {
        name: rule(size, values[name])
        for name, rule in RULES.items()
        if type(values.get(name)) in (int, list)
    }
    if "head_dim" in values:  # where it is None, the library divides, or forgets to
        sizes["head_dim"] = size.head
    if "qk_rope_head_dim" in sizes:  # of latent attention it is what turns by position
        sizes["head_dim"] = sizes["qk_rope_head_dim"]
    quiet = {
        name: 0.0
        for name, value in values.items()
        if isinstance(value, float) and any(noise in name for noise in NOISES)
    }
    # Embeddings come from outside, so that of the vocabulary one token is left.
    tokens = {"vocab_size": 1} | {
        name: 0
        for name, value in values.items()
        if name.endswith("_token_id") and isinstance(value, int | list)
    }
    reads = {"is_decoder": True} if hasattr(defaults, "is_decoder") else {}
    special = SPECIAL[model_type](size) if model_type in SPECIAL else {}
    return {**sizes, **own, **quiet, **reads, **tokens, **special}


def last(size: Size, kind: str) -> list[str]:
    """One kind for all layers but the last, which attends to all tokens."""
    return [*[kind] * (size.layers - 1), "full_attention"]


def left_out(config: Any, size: Size) -> dict[str, list[Any]]:
    """The lists of kinds, by field, that have to be changed for every kind to have a layer."""
    changed = {}
    for name in KINDS:
        library = vars(size.defaults).get(name)
        if not isinstance(library, list):
            continue
        kinds = list(getattr(config, name))[: size.layers]
        kinds += library[len(kinds) : size.layers]
        missing = [kind for kind in dict.fromkeys(library) if kind not in kinds]
        missing = missing[: max(0, size.layers - 1)]
        if missing:
            kinds[-len(missing) :] = missing
        if kinds != list(getattr(config, name)):
            changed[name] = kinds
    return changed


def first_line(error: BaseException) -> str:
    """What an error says, on one line."""
    said = " ".join(str(error).split())
    return f"{type(error).__name__}: {said}"[:300]
