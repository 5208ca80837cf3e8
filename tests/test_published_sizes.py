"""Bodies of published sizes have the published numbers of parameters, embeddings apart."""

from typing import Any

import pytest
import torch

from architectures import ARCHITECTURES
from architectures.rwkv7 import RANK_LAWS, suggested_rank

NEOX_TOKENS = 50_304  # GPT-NeoX's vocabulary, padded to a multiple of 64
PILE_TOKENS = 50_277  # the same, of RWKV
WORLD_TOKENS = 65_536  # RWKV World

# Peng et al. 2025, table 16, by width: decay, rate, share and gate.
PUBLISHED_RANKS = {
    768: (64, 64, 32, 128),
    2048: (96, 96, 64, 256),
    2560: (96, 96, 64, 320),
    4096: (128, 128, 96, 480),
    6144: (128, 128, 96, 640),
}


def count(name: str, width: int, **options: Any) -> int:
    """The number of parameters of a body, without memory for them."""
    architecture: Any = ARCHITECTURES[name]
    with torch.device("meta"):
        return sum(parameter.numel() for parameter in architecture(width, **options).parameters())


@pytest.mark.parametrize(("width", "layers"), [(768, 12), (1024, 24), (2048, 24), (5120, 40)])
def test_rwkv4_has_the_size_of_its_formula(width: int, layers: int) -> None:
    """Peng et al. 2023, table 2: 2 V D + 13 D^2 L + D (11 L + 4)."""
    published = 2 * PILE_TOKENS * width + 13 * width**2 * layers + width * (11 * layers + 4)
    if (width, layers) == (768, 12):
        assert published == 169_342_464  # the checkpoint rwkv-4-169m-pile
    embedding_and_its_norm = 2 * PILE_TOKENS * width + 2 * width
    assert count("rwkv4", width, layers=layers) == published - embedding_and_its_norm


def test_rwkv7_has_the_size_of_its_smallest_checkpoint() -> None:
    """RWKV-x070-World-0.1B, without the first layer's shares, which its code has but never uses."""
    embedding_and_its_norm = 2 * WORLD_TOKENS * 768 + 2 * 768
    published = 191_034_624
    assert count("rwkv7", 768, layers=12, heads=12) == published - embedding_and_its_norm


@pytest.mark.parametrize("width", PUBLISHED_RANKS)
def test_rwkv7_has_the_ranks_of_its_table(width: int) -> None:
    ranks = tuple(suggested_rank(name, width) for name in ("decay", "rate", "share", "gate"))
    assert ranks == PUBLISHED_RANKS[width]


@pytest.mark.parametrize("rank", [None, 5])
def test_rwkv7_takes_one_rank_for_all_or_each_maps_own(rank: int | None) -> None:
    architecture: Any = ARCHITECTURES["rwkv7"]
    with torch.device("meta"):
        mixing = architecture(768, layers=2, heads=12, rank=rank).blocks[2].mixer
    for name in RANK_LAWS:
        expected = rank or suggested_rank(name, 768)
        assert mixing.get_submodule(name).down.shape == (768, expected)
        assert mixing.get_submodule(name).up.shape == (expected, 768)


@pytest.mark.parametrize(("width", "layers", "published"), [(768, 24, 163.8), (1024, 48, 409.3)])
def test_xlstm_has_the_size_of_its_table(width: int, layers: int, published: float) -> None:
    """Beck et al. 2024, table 7, in millions: xLSTM[1:0] with 4 heads, embeddings not tied."""
    body = count("xlstm", width, layers=layers, slstm_every=0)
    biases_of_norms = (layers + 1) * width  # theirs have none
    total = body - biases_of_norms + 2 * NEOX_TOKENS * width
    assert round(total / 1e6, 1) == published


def test_mamba_has_the_size_of_its_checkpoint() -> None:
    """state-spaces/mamba-130m, with RMSNorm and tied embeddings of 50,280 tokens."""
    biases_of_norms = (24 + 1) * 768
    body = count("mamba", 768, layers=24) - biases_of_norms
    assert body == 129_135_360 - 50_280 * 768


def test_mamba2_has_the_size_of_its_checkpoint() -> None:
    """state-spaces/mamba2-130m, with RMSNorm and tied embeddings of 50,288 tokens."""
    biases_of_norms = (24 + 1) * 768
    body = count("mamba2", 768, layers=24, heads=24, state=128) - biases_of_norms
    assert body == 128_989_632 - 50_288 * 768


@pytest.mark.parametrize(
    ("model_type", "config", "published"),
    [
        ("gpt2", {}, 124_439_808 - 50_257 * 768),
        ("gpt_neox", {"intermediate_size": 3072}, 162_322_944 - 2 * NEOX_TOKENS * 768),
    ],
    ids=["gpt2", "pythia-160m"],
)
def test_transformers_decoders_have_their_published_sizes(
    model_type: str, config: dict[str, Any], published: int
) -> None:
    """Without the embedding of tokens; gpt2's of positions belongs to the body."""
    options = {"model_type": model_type, "heads": 12, "layers": 12, "config": config}
    assert count("hf", 768, **options) == published


def test_the_transformer_is_gpt2_without_biases_in_attention() -> None:
    """Radford et al. 2019, the smallest model; its four projections add 4 D biases a layer."""
    options = {"layers": 12, "heads": 12, "position": "learned", "max_length": 1024}
    published = 124_439_808 - 50_257 * 768
    assert count("transformer", 768, **options) == published - 12 * 4 * 768
