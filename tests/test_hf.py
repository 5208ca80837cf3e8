"""Decoders of transformers as bodies: the laws, the same outputs, and clear refusals."""

import subprocess
import sys
from typing import Any

import pytest
import torch
from torch import Tensor

from architectures.body import state_tensors
from architectures.hf import Hf
from bench.certify.laws import LAWS

# Parts of these run in float32 whatever the dtype, so the laws are tried in float32, and central
# differences, which need float64, are not.
FLOAT32_INSIDE: list[dict[str, Any]] = [
    {"model_type": "llama", "config": {"intermediate_size": 24, "num_key_value_heads": 2}},
    {"model_type": "mamba", "config": {"state_size": 3}},
]
CASES = [{"model_type": "gpt2"}, *FLOAT32_INSIDE]


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def build(**options: Any) -> Hf:
    torch.manual_seed(0)
    return Hf(16, **options)


@pytest.mark.parametrize("options", FLOAT32_INSIDE, ids=lambda options: options["model_type"])
@pytest.mark.parametrize("law", [law for law in LAWS if law != "gradients_match_differences"])
def test_the_laws_hold_in_float32(law: str, options: dict[str, Any]) -> None:
    finding = LAWS[law](lambda: Hf(16, **options), torch.float32, torch.device("cpu"))
    assert finding.holds, finding


@pytest.mark.parametrize("options", CASES, ids=lambda options: options["model_type"])
def test_a_body_is_the_librarys_model(options: dict[str, Any]) -> None:
    body, x = build(**options).eval(), normal(2, 7, 16)
    y, state = body(x)
    expected = body.model(inputs_embeds=x, use_cache=False).last_hidden_state
    torch.testing.assert_close(y, expected)
    assert list(state_tensors(state))
    assert body.kernel == f"transformers-{options['model_type']}"
    assert sum("embed" in name or "wte" in name for name, _ in body.named_parameters()) == 0


def test_the_configuration_is_as_asked() -> None:
    config = build(model_type="llama", layers=3, heads=2, config={"attention_dropout": 0.5}).model
    assert (config.config.num_hidden_layers, config.config.num_attention_heads) == (3, 2)
    assert config.config.attention_dropout == 0.5
    assert config.config.hidden_size == 16
    gpt2 = build().model.config
    assert (gpt2.resid_pdrop, gpt2.attn_pdrop, gpt2.embd_pdrop) == (0.0, 0.0, 0.0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"model_type": "gpt22"}, "no decoder 'gpt22'; did you mean 'gpt2'?"),
        ({"model_type": "rwkv"}, "unsupported: rwkv"),
        ({"model_type": "gemma2"}, "unsupported: gemma2 keeps its past in a DynamicSliding"),
        ({"config": {"hidden_size": 3}}, "config.hidden_size is the option width"),
        ({"config": {"n_inner_": 3}}, "the configuration of gpt2 has no field 'n_inner_'"),
        ({"layers": 0}, "layers must be at least 1"),
        ({"heads": 0}, "heads must be at least 1"),
        ({"heads": 3}, "unsupported: gpt2"),
    ],
)
def test_a_bad_option_is_an_error_that_names_it(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError) as error:
        build(**options)
    assert message in str(error.value)


def test_learned_positions_end() -> None:
    body = build(config={"max_position_embeddings": 8})
    _, state = body(normal(2, 8, 16))
    with pytest.raises(ValueError, match="9 tokens are more than the 8 positions of gpt2"):
        body.step(normal(2, 16), state)


def test_architectures_import_no_transformers() -> None:
    code = "import sys, architectures; assert 'transformers' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
