"""Whole models against those of transformers: outputs, all gradients, and steps after a prefill.

Each model of transformers runs with weights that are functions of ours, so that one call of
autograd gives the gradient by every parameter of the body through either. Norms, and Llama's gated
MLP, differ from the shared backbone's: there the peer takes our module itself.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call

from architectures.kernels.mlstm import mlstm
from tests.agreement import close_to_largest, normal, perturbed

# transformers computes rotations and scans in float32 whatever the dtype. Relative to the largest.
FLOAT32_INSIDE = 1e-5
EXACT = 1e-11  # float64, the same sums in another order
PREFILL, LENGTH = 11, 17


class Pair(NamedTuple):
    """A body, a model of transformers, and the latter's weights as functions of the former's."""

    body: Any
    peer: Any
    weights: dict[str, Tensor]
    n_rows: int = 3


def mamba() -> Pair:
    from transformers import MambaConfig, MambaModel

    config = MambaConfig(
        vocab_size=8, hidden_size=16, state_size=5, num_hidden_layers=2, expand=2, conv_kernel=4
    )
    body, peer, weights = perturbed("mamba", state=5), MambaModel(config).double(), {}
    for index, block in enumerate(body.blocks):
        mixer, prefix = block.mixer, f"layers.{index}.mixer"
        peer.layers[index].norm = block.norm
        weights[f"{prefix}.conv1d.weight"] = mixer.conv_weight.unsqueeze(1)
        weights[f"{prefix}.conv1d.bias"] = mixer.conv_bias
        for name in ("A_log", "D", "dt_proj.bias"):
            weights[f"{prefix}.{name}"] = mixer.get_parameter(name)
        for name in ("in_proj", "x_proj", "dt_proj", "out_proj"):
            weights[f"{prefix}.{name}.weight"] = mixer.get_submodule(name).weight
    peer.norm_f = body.norm
    return Pair(body, peer, weights)


def mamba2() -> Pair:
    from transformers import Mamba2Config, Mamba2Model

    config = Mamba2Config(
        vocab_size=8,
        hidden_size=16,
        state_size=5,
        num_hidden_layers=2,
        num_heads=4,
        head_dim=8,
        n_groups=1,
        expand=2,
        chunk_size=8,
        layer_norm_epsilon=1e-5,
    )
    body, peer, weights = perturbed("mamba2", state=5), Mamba2Model(config).double(), {}
    for index, block in enumerate(body.blocks):
        mixer, prefix = block.mixer, f"layers.{index}.mixer"
        peer.layers[index].norm = block.norm
        weights[f"{prefix}.conv1d.weight"] = mixer.conv_weight.unsqueeze(1)
        weights[f"{prefix}.conv1d.bias"] = mixer.conv_bias
        weights[f"{prefix}.norm.weight"] = mixer.norm_weight
        for name in ("A_log", "D", "dt_bias", "in_proj.weight", "out_proj.weight"):
            weights[f"{prefix}.{name}"] = mixer.get_parameter(name)
    peer.norm_f = body.norm
    return Pair(body, peer, weights)


def rwkv4() -> Pair:
    from transformers import RwkvConfig, RwkvModel

    config = RwkvConfig(vocab_size=8, hidden_size=16, num_hidden_layers=2, intermediate_size=64)
    body, peer, weights = perturbed("rwkv4"), RwkvModel(config).double(), {}
    peer.blocks[0].pre_ln = nn.Identity()
    for index, theirs in enumerate(peer.blocks):
        time, channel = body.blocks[2 * index], body.blocks[2 * index + 1]
        theirs.ln1, theirs.ln2 = time.norm, channel.norm
        prefix = f"blocks.{index}.attention"
        weights[f"{prefix}.time_decay"] = time.mixer.log_decay_rate
        weights[f"{prefix}.time_first"] = time.mixer.bonus
        for part, names in (
            ("attention", "key value receptance"),
            ("feed_forward", "key receptance"),
        ):
            mixer = time.mixer if part == "attention" else channel.mixer
            for name, mix in zip(names.split(), mixer.mix, strict=True):
                weights[f"blocks.{index}.{part}.time_mix_{name}"] = mix.view(1, 1, -1)
            for name in ("key", "value", "receptance"):
                weights[f"blocks.{index}.{part}.{name}.weight"] = mixer.get_submodule(name).weight
        weights[f"{prefix}.output.weight"] = time.mixer.output.weight
    peer.ln_out = body.norm
    # With more than one row the peer's single cached step mixes the rows up.
    return Pair(body, peer, weights, n_rows=1)


def attention(window: int | None = None, kv_heads: int = 4) -> Pair:
    """Llama, or with a window Mistral."""
    from transformers import LlamaConfig, LlamaModel, MistralConfig, MistralModel

    sizes: dict[str, Any] = {
        "vocab_size": 8,
        "hidden_size": 16,
        "intermediate_size": 8,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": kv_heads,
    }
    peer: Any = LlamaModel(LlamaConfig(**sizes)) if window is None else None
    if window is not None:
        peer = MistralModel(MistralConfig(**sizes, sliding_window=window, head_dim=4))
    body = perturbed("transformer", window=window, kv_heads=kv_heads)
    weights = {}
    for index, block in enumerate(body.blocks):
        prefix, mixer = f"layers.{index}.self_attn", block.mixer
        parts = mixer.project_in.weight.split([16, 4 * kv_heads, 4 * kv_heads])
        for key, part in zip("qkv", parts, strict=True):
            weights[f"{prefix}.{key}_proj.weight"] = part
        weights[f"{prefix}.o_proj.weight"] = mixer.project_out.weight
        peer.layers[index].input_layernorm = block.norm
        peer.layers[index].post_attention_layernorm = block.mlp[0]
        peer.layers[index].mlp = block.mlp[1]
    peer.norm = body.norm
    return Pair(body, peer.double(), weights)


PAIRS: dict[str, Callable[[], Pair]] = {
    "mamba": mamba,
    "mamba2": mamba2,
    "rwkv4": rwkv4,
    "llama": attention,
    "llama-grouped": lambda: attention(kv_heads=2),
    "mistral": lambda: attention(window=5, kv_heads=1),
}


def run_peer(pair: Pair, x: Tensor, **options: Any) -> Any:
    """The peer's output of x (B, T, D), with the body's weights."""
    return functional_call(pair.peer, pair.weights, kwargs={"inputs_embeds": x, **options})


@pytest.mark.parametrize("name", PAIRS)
def test_a_peer_gets_all_of_its_weights_from_the_body(name: str) -> None:
    """What is left of the peer's own are embeddings, which are not read."""
    pair = PAIRS[name]()
    ours = {id(parameter) for parameter in pair.body.parameters()}
    own = {key for key, parameter in pair.peer.named_parameters() if id(parameter) not in ours}
    assert {key for key in own - set(pair.weights) if "embed" not in key} == set()
    assert set(pair.weights) <= own


@pytest.mark.parametrize("name", PAIRS)
def test_a_model_has_the_outputs_and_all_gradients_of_its_peer(name: str) -> None:
    pair = PAIRS[name]()
    pair.peer.train()
    x = normal(pair.n_rows, LENGTH, 16).requires_grad_()
    cotangent = normal(pair.n_rows, LENGTH, 16, seed=1)
    inputs = [x, *pair.body.parameters()]
    results = []
    for y in (pair.body(x)[0], run_peer(pair, x, use_cache=False)[0]):
        results.append([y, *torch.autograd.grad((y * cotangent).sum(), inputs, retain_graph=True)])
    for actual, expected in zip(*results, strict=True):
        close_to_largest(actual, expected, FLOAT32_INSIDE)


@pytest.mark.parametrize("name", PAIRS)
@torch.no_grad()
def test_steps_after_a_prefill_are_those_of_the_peers_cache(name: str) -> None:
    pair = PAIRS[name]()
    pair.peer.eval()
    x = normal(pair.n_rows, LENGTH, 16)
    y, state = pair.body(x[:, :PREFILL])
    found = run_peer(pair, x[:, :PREFILL], use_cache=True)
    close_to_largest(y, found[0], FLOAT32_INSIDE)
    for t in range(PREFILL, LENGTH):
        y_t, state = pair.body.step(x[:, t], state)
        found = run_peer(pair, x[:, t : t + 1], use_cache=True, **cache_of(found))
        close_to_largest(y_t, found[0][:, 0], FLOAT32_INSIDE)


def cache_of(found: Any) -> dict[str, Any]:
    """The cache that a model of transformers returned, by the name under which it takes it."""
    for key in ("cache_params", "past_key_values", "state"):
        if getattr(found, key, None) is not None:
            return {key: found[key]}
    raise AssertionError(f"no cache in {list(found)}")


def test_mlstms_steps_after_a_prefill_are_those_of_transformers_xlstm() -> None:
    """xLSTM-7B has other blocks than the paper's, but the same cell, and a state of its own."""
    from transformers.models.xlstm import modeling_xlstm

    q, k, v = (normal(2, LENGTH, 3, size, seed=size) for size in (4, 4, 5))
    q = normal(2, LENGTH, 3, 4, seed=9)
    log_input, forget = 3 * normal(2, LENGTH, 3, seed=6), 2 * normal(2, LENGTH, 3, seed=7)
    log_forget = forget.sigmoid().log()
    heads_first = [part.transpose(1, 2) for part in (q, k, v, log_input, forget)]
    # The peer divides q by sqrt(N), 2 here.
    y, state = mlstm(*(part[:, :PREFILL] for part in (q / 2, k, v, log_input, log_forget)))
    found, theirs = modeling_xlstm.mlstm_recurrent_sequence_native(
        *(part[:, :, :PREFILL] for part in heads_first),
        return_last_states=True,
        eps=0.0,
        dtype_state=torch.float64,
    )
    close_to_largest(y, found.transpose(1, 2), EXACT)
    same_memory(state, theirs)
    for t in range(PREFILL, LENGTH):
        inputs = (part[:, t : t + 1] for part in (q / 2, k, v, log_input, log_forget))
        y_t, state = mlstm(*inputs, state)
        query, key, value, i, f = (part[:, :, t] for part in heads_first)
        found_t, theirs = modeling_xlstm.mlstm_recurrent_step_native(
            query,
            key,
            value,
            i.unsqueeze(2),
            f.unsqueeze(2),
            *theirs,
            eps=0.0,
            dtype_state=torch.float64,
        )
        close_to_largest(y_t[:, 0], found_t, EXACT)
        same_memory(state, theirs)


def same_memory(state: Any, theirs: Any) -> None:
    """C and n are kept divided by e^m, and the m of the two differ: compare what they stand for."""
    memory, m = state
    C, n, their_m = theirs
    whole = memory * m.exp()[..., None, None]
    their_m = their_m.reshape(*m.shape)
    close_to_largest(whole[..., :-1], C * their_m.exp()[..., None, None], EXACT)
    close_to_largest(whole[..., -1], n * their_m.exp().unsqueeze(2), EXACT)


def test_the_comparison_sees_a_wrong_value() -> None:
    expected = normal(5)
    wrong = expected.clone()
    wrong[2] += 1e-4
    with pytest.raises(AssertionError):
        close_to_largest(wrong, expected, FLOAT32_INSIDE)
