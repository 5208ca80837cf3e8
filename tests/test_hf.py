"""Decoders of transformers as bodies: the laws, the same outputs, small sizes, clear refusals."""

import subprocess
import sys
from typing import Any

import pytest
import torch
from torch import Tensor

from architectures.body import State, UnsupportedError, state_bytes, state_tensors
from architectures.hf import Hf, fault_of
from architectures.layers.hf_config import configuration
from architectures.layers.hf_memory import Memory
from architectures.layers.hf_probe import fault
from bench.certify.laws import LAWS

# Parts of these run in float32 whatever the dtype, so the laws are tried in float32, and central
# differences, which need float64, are not.
FLOAT32_INSIDE: list[dict[str, Any]] = [
    {"model_type": "llama", "config": {"intermediate_size": 24, "num_key_value_heads": 2}},
    {"model_type": "mamba", "config": {"state_size": 3}},
]
CASES = [{"model_type": "gpt2"}, *FLOAT32_INSIDE]

CORE_LAWS = [
    "split_invariance",
    "step_matches_forward",
    "state_is_never_mutated",
    "state_size_is_as_stated",
    "past_ignores_future_values",
    "rows_do_not_mix",
    "padding_changes_nothing",
    "gradients_match_in_chunks",
    "nan_shows_and_stays_in_its_row",
    "saving_keeps_the_body",
]
# One of each way to keep the past. A window of 30 is passed by the sequences of split_invariance.
QUICK: list[dict[str, Any]] = [
    {"model_type": "mistral", "config": {"sliding_window": 30}},
    {"model_type": "lfm2"},
    {"model_type": "minimax"},
    {"model_type": "rwkv"},
    {"model_type": "xlstm"},
    {"model_type": "recurrent_gemma", "config": {"attention_window_size": 30}},
]
SLOW: list[dict[str, Any]] = [
    *[
        {"model_type": name}
        for name in [
            "opt",
            "bloom",
            "qwen2",
            "qwen3",
            "phi",
            "gpt_neox",
            "falcon",
            "roberta",
            "deepseek_v3",
            "mamba2",
            "falcon_mamba",
            "qwen3_next",
            "jamba",
            "bamba",
            "falcon_h1",
            "zamba2",
            "granitemoehybrid",
            "nemotron_h",
            "kimi_linear",
        ]
    ],
    {"model_type": "gemma2", "config": {"sliding_window": 30}},
    {"model_type": "gemma3_text", "config": {"sliding_window": 30}},
]
# Of the decay of qwen3_next, whose gradient is 1e-5 of the others': it changes by 4e-3 of itself if
# the inputs change by 1e-7.
WIDER_BOUNDS = {("qwen3_next", "gradients_match_in_chunks"): 5e-2}

REFUSED = {
    "ctrl": "ctrl: the rows of a batch mix",
    "cpmant": "cpmant takes tokens alone, no embeddings",
    "openai-gpt": "openai-gpt has no cache",
    "xlnet": "xlnet has no cache",
    "deepseek_v4": "deepseek_v4: it keeps its past in a DeepseekV4HCACache",
    "t5": "transformers has t5, but not as a decoder",
    "gemma3": "gemma3 is built from text_config, vision_config: take gemma3_text, "
    "its decoder of text",
}

# At width D a transformer's layer has 12 D^2 weights; gates, experts and short convolutions make
# it some times as many, and a size of thousands that slipped in hundreds of times as many.
MAX_WEIGHTS_PER_LAYER = 64
SMALL_WIDTH = 64


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def build(**options: Any) -> Hf:
    torch.manual_seed(0)
    return Hf(16, **options)


def hold(law: str, options: dict[str, Any]) -> None:
    finding = LAWS[law](
        lambda: Hf(16, **{"heads": 2, **options}), torch.float32, torch.device("cpu")
    )
    bound = WIDER_BOUNDS.get((options["model_type"], law), finding.bound)
    assert finding.error <= bound, finding


def by_type(options: dict[str, Any]) -> str:
    return str(options["model_type"])


@pytest.mark.parametrize("options", FLOAT32_INSIDE, ids=by_type)
@pytest.mark.parametrize("law", [law for law in LAWS if law != "gradients_match_differences"])
def test_the_laws_hold_in_float32(law: str, options: dict[str, Any]) -> None:
    hold(law, options)


@pytest.mark.parametrize("options", QUICK, ids=by_type)
@pytest.mark.parametrize("law", CORE_LAWS)
def test_the_core_laws_hold_for_every_way_to_keep_the_past(
    law: str, options: dict[str, Any]
) -> None:
    hold(law, options)


@pytest.mark.slow
@pytest.mark.parametrize("options", SLOW, ids=by_type)
@pytest.mark.parametrize("law", CORE_LAWS)
def test_the_core_laws_hold_for_many_families(law: str, options: dict[str, Any]) -> None:
    hold(law, options)


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_body_says_why(name: str) -> None:
    with pytest.raises(UnsupportedError) as error:
        build(model_type=name)
    assert str(error.value) == REFUSED[name]


@pytest.mark.slow
def test_every_decoder_of_the_library_works_or_says_why_not() -> None:
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    names = sorted(set(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES) & set(CONFIG_MAPPING))
    layers, works, refused = 4, [], {}
    for name in names:
        try:
            body = Hf(SMALL_WIDTH, model_type=name, layers=layers)
        except UnsupportedError as error:
            refused[name] = str(error)
            continue
        works.append(name)
        tables = sum(m.weight.numel() for m in body.modules() if isinstance(m, torch.nn.Embedding))
        weights = sum(p.numel() for p in body.parameters()) - tables
        assert weights <= MAX_WEIGHTS_PER_LAYER * layers * SMALL_WIDTH**2, name
    assert all(name in reason for name, reason in refused.items())
    assert len(works) >= 140
    assert {by_type(options) for options in [*CASES, *QUICK, *SLOW]} <= set(works)


@pytest.mark.parametrize("options", CASES, ids=by_type)
def test_a_body_is_the_librarys_model(options: dict[str, Any]) -> None:
    body, x = build(**options).eval(), normal(2, 7, 16)
    y, state = body(x)
    expected = body.model(inputs_embeds=x, use_cache=False).last_hidden_state
    torch.testing.assert_close(y, expected)
    assert list(state_tensors(state))
    kernel, _, attention = body.kernel.partition("+")
    assert kernel == f"transformers-{options['model_type']}"
    assert bool(attention) == (body.memory.n_attention > 0)
    assert sum("embed" in name or "wte" in name for name, _ in body.named_parameters()) == 0


def test_the_configuration_is_as_asked() -> None:
    config = build(model_type="llama", layers=3, heads=2, config={"attention_dropout": 0.5}).model
    assert (config.config.num_hidden_layers, config.config.num_attention_heads) == (3, 2)
    assert config.config.attention_dropout == 0.5
    assert config.config.hidden_size == 16
    gpt2 = build().model.config
    assert (gpt2.resid_pdrop, gpt2.attn_pdrop, gpt2.embd_pdrop) == (0.0, 0.0, 0.0)


def test_sizes_follow_from_the_harness_and_not_from_the_library() -> None:
    config = configuration("qwen3_next", 64, 2, 4, {})
    assert (config.head_dim, config.linear_key_head_dim, config.num_key_value_heads) == (16, 16, 4)
    assert config.intermediate_size == 4 * round(5632 / 2048 * 64 / 4)
    assert (config.num_experts, config.num_experts_per_tok) == (4, 2)
    assert config.layer_types == ["linear_attention", "full_attention"]
    assert configuration("qwen3_next", 64, 2, 4, {"head_dim": 32}).head_dim == 32
    mamba2 = configuration("mamba2", 64, 2, 4, {})
    assert (mamba2.num_heads * mamba2.head_dim, mamba2.state_size, mamba2.n_groups) == (128, 64, 1)


def test_a_mixed_model_keeps_tokens_and_states() -> None:
    body = build(model_type="jamba")
    _, (layers, n_read) = body(normal(2, 7, 16))
    assert n_read is None
    assert [sorted(layer) for layer in layers] == [["conv_0", "recurrent_0"], ["keys", "values"]]
    assert [len(tensor) for tensor in state_tensors(layers)] == [2] * 4
    assert (body.state_grows, body.memory.recurrent) == (True, True)


def test_a_window_bounds_the_state() -> None:
    body = build(model_type="mistral", config={"sliding_window": 5})
    x = normal(2, 9, 16)
    _, (layers, _) = body(x)
    assert {layer["keys"].shape[2] for layer in layers} == {4}
    assert state_bytes(body(normal(2, 90, 16))[1]) == state_bytes(layers)
    changed = x.clone()
    changed[:, 0] = 0.0
    one_layer = build(model_type="mistral", layers=1, config={"sliding_window": 5})
    assert torch.equal(one_layer(changed)[0][:, 5:], one_layer(x)[0][:, 5:])
    assert not torch.equal(one_layer(changed)[0][:, 4], one_layer(x)[0][:, 4])


class Broken(Memory):
    """A memory with a fault, around a model that adds up what it has read."""

    def __init__(self, kind: str) -> None:
        super().__init__(None)
        self.kind = kind

    def read(self, model: Any, x: Tensor, layers: State) -> tuple[Tensor, State]:
        """Map x (B, T, D) to its running sum y (B, T, D), or to something else."""
        before = x.new_zeros(len(x), 1, x.shape[2]) if layers is None else layers
        y = before + x.cumsum(dim=1)
        state = None if self.kind == "forgets" else y[:, -1:]
        if self.kind == "reads ahead":
            y = y + x.mean(dim=1, keepdim=True)
        elif self.kind == "mixes rows":
            y = y + x.mean(dim=0, keepdim=True)
        elif self.kind == "is narrower":
            y = y[:, :, 1:]
        elif self.kind == "overflows":
            y = y / 0.0
        return y, state


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("is right", ""),
        ("forgets", "carrying on from its cache gives other outputs than one piece"),
        ("reads ahead", "its outputs depend on later inputs"),
        ("mixes rows", "the rows of a batch mix"),
        ("is narrower", "its output is of shape (2, 13, 7), where (2, 13, 8) went in"),
        ("overflows", "its outputs are not finite"),
    ],
)
def test_the_trial_sees_what_a_model_does_wrong(kind: str, reason: str) -> None:
    assert fault(torch.nn.Linear(1, 1), Broken(kind), 8) == reason


def test_a_trial_leaves_the_weights_and_the_draws_alone() -> None:
    fault_of.cache_clear()
    first, first_draw = build(model_type="gpt_neox"), torch.rand(3)
    again, second_draw = build(model_type="gpt_neox"), torch.rand(3)  # which is not tried again
    assert torch.equal(first_draw, second_draw)
    for a, b in zip(first.parameters(), again.parameters(), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"model_type": "gpt22"}, "no decoder 'gpt22'; did you mean 'gpt2'?"),
        ({"config": {"hidden_size": 3}}, "config.hidden_size is the option width"),
        ({"config": {"n_inner_": 3}}, "the configuration of gpt2 has no field 'n_inner_'"),
        ({"layers": 0}, "layers must be at least 1"),
        ({"heads": 0}, "heads must be at least 1"),
        ({"heads": 3}, "gpt2: ValueError: `embed_dim` must be divisible by num_heads"),
    ],
)
def test_a_bad_option_is_an_error_that_names_it(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError) as error:
        build(**options)
    assert message in str(error.value)


@pytest.mark.parametrize("name", ["gpt2", "gptj", "roberta", "opt"])
def test_learned_positions_end(name: str) -> None:
    longest = 7 if name == "roberta" else 8  # whose first token takes the second place
    body = build(model_type=name, config={"max_position_embeddings": 8})
    _, state = body(normal(2, longest, 16))
    message = f"{longest + 1} tokens are more than the {longest} positions of {name}"
    with pytest.raises(ValueError, match=message):
        body.step(normal(2, 16), state)


def test_experts_run_in_float64() -> None:
    body = build(model_type="mixtral")
    x = normal(2, 5, 16)
    expected, _ = body(x)
    y, _ = body.double()(x.double())
    torch.testing.assert_close(y.float(), expected)
    torch.testing.assert_close(body.float()(x)[0], expected)


def test_architectures_import_no_transformers() -> None:
    code = "import sys, architectures; assert 'transformers' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
