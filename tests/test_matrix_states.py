"""Matrix states and wkv against loops written from the papers, and against transformers."""

import math
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.autograd import gradcheck
from torch.nn.functional import conv1d, elu, pad, silu, softplus

from architectures import ARCHITECTURES
from architectures.kernels.delta_rule import gated_delta_rule, general_delta_rule
from architectures.kernels.mlstm import mlstm
from architectures.kernels.slstm import slstm
from architectures.kernels.ssd import CHUNK_TOKENS, ssd
from architectures.kernels.wkv4 import wkv4

EXACT = 1e-11  # float64, sums of a hundred terms in another order
SINGLE = 1e-5  # the same in float32, of which transformers computes its scans whatever the dtype
# The same, where y divides by a sum that may have cancelled to a thousandth of its terms.
FEW_CANCELLED = 1e-9
LENGTHS = [1, 2, CHUNK_TOKENS - 1, CHUNK_TOKENS, CHUNK_TOKENS + 1, 2 * CHUNK_TOKENS + 5]

Scan = Callable[..., tuple[Tensor, Tensor]]


def normal(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, dtype=torch.float64, generator=generator)


def close(actual: Tensor, expected: Tensor, tolerance: float = EXACT) -> None:
    torch.testing.assert_close(actual, expected, rtol=tolerance, atol=tolerance)


def build(name: str, width: int = 16, **options: Any) -> Any:
    """A body in float64 with noise on its parameters: what begins at 0 or 1 would hide errors."""
    architecture: Any = ARCHITECTURES[name]
    torch.manual_seed(0)
    body = architecture(width, **options).double()
    with torch.no_grad():
        for index, parameter in enumerate(body.parameters()):
            parameter.add_(0.1 * normal(*parameter.shape, seed=index))
    return body


def agree_with_gradients(
    functions: tuple[Callable[..., Any], Callable[..., Any]],
    inputs: list[Tensor],
    tolerance: float = EXACT,
) -> None:
    """Two functions have the same outputs, and the same gradients by all inputs."""
    results = []
    for function in functions:
        outputs = [function(*inputs)]
        if isinstance(outputs[0], tuple):
            outputs = list(outputs[0])
        cotangents = [normal(*y.shape, seed=100 + i) for i, y in enumerate(outputs)]
        loss = sum((y * c).sum() for y, c in zip(outputs, cotangents, strict=True))
        results.append([*outputs, *torch.autograd.grad(loss, inputs)])
    for actual, expected in zip(*results, strict=True):
        close(actual, expected, tolerance)


def agree_with_loop(mixer: nn.Module, loop: Callable[..., Tensor], x: Tensor) -> None:
    """A mixer is the loop with the mixer's weights, outputs and all gradients."""
    weights = list(mixer.parameters())
    x.requires_grad_()

    def by_mixer(*_: Tensor) -> Tensor:
        y: Tensor = mixer(x)[0]
        return y

    agree_with_gradients((by_mixer, lambda *_: loop(mixer, x)), [x, *weights])


def ssd_by_loop(
    q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor, state: Tensor
) -> tuple[Tensor, Tensor]:
    outputs = []
    for t in range(v.shape[1]):
        written = k[:, t, :, :, None] * v[:, t, :, None, :]
        state = log_decay[:, t, :, None, None].exp() * state + written
        outputs.append((q[:, t, :, :, None] * state).sum(2))
    return torch.stack(outputs, dim=1), state


def gated_delta_by_loop(
    q: Tensor, k: Tensor, v: Tensor, beta: Tensor, log_decay: Tensor, state: Tensor
) -> tuple[Tensor, Tensor]:
    outputs = []
    for t in range(v.shape[1]):
        strength = beta[:, t, :, None, None]
        key_square = k[:, t, :, :, None] * k[:, t, :, None, :]
        kept = torch.eye(k.shape[3], dtype=k.dtype) - strength * key_square
        written = strength * k[:, t, :, :, None] * v[:, t, :, None, :]
        state = log_decay[:, t, :, None, None].exp() * (kept @ state) + written
        outputs.append((q[:, t, :, :, None] * state).sum(2))
    return torch.stack(outputs, dim=1), state


def general_delta_by_loop(
    q: Tensor, k: Tensor, v: Tensor, a: Tensor, b: Tensor, log_decay: Tensor, state: Tensor
) -> tuple[Tensor, Tensor]:
    outputs = []
    for t in range(v.shape[1]):
        kept = torch.diag_embed(log_decay[:, t].exp()) + b[:, t, :, :, None] * a[:, t, :, None, :]
        state = kept @ state + k[:, t, :, :, None] * v[:, t, :, None, :]
        outputs.append((q[:, t, :, :, None] * state).sum(2))
    return torch.stack(outputs, dim=1), state


def ssd_inputs(length: int, groups: int = 3, size: int = 4) -> list[Tensor]:
    """Decays reach from nearly 1 to e^-30."""
    inputs = [
        normal(2, length, groups, size, seed=1),
        normal(2, length, groups, size, seed=2),
        normal(2, length, 3, size + 1, seed=3),
        -(2 * normal(2, length, 3, seed=4)).exp(),
        normal(2, 3, size, size + 1, seed=5),
    ]
    return [tensor.requires_grad_() for tensor in inputs]


def gated_delta_inputs(length: int, size: int = 4) -> list[Tensor]:
    q, k, v, log_decay, state = (x.detach() for x in ssd_inputs(length, size=size))
    beta = normal(2, length, 3, seed=6).sigmoid()
    inputs = [q, k / k.norm(dim=3, keepdim=True), v, beta, log_decay, state]
    return [tensor.requires_grad_() for tensor in inputs]


def general_delta_inputs(length: int, size: int = 4) -> list[Tensor]:
    """Decays as small as RWKV-7 has them, exp(-exp(-1/2))."""
    q, k, v, _, state = (x.detach() for x in ssd_inputs(length, size=size))
    erased = normal(2, length, 3, size, seed=6)
    erased = erased / erased.norm(dim=3, keepdim=True)
    rate = normal(2, length, 3, size, seed=7).sigmoid()
    log_decay = -0.607 * (2 * normal(2, length, 3, size, seed=8)).sigmoid()
    inputs = [q, k, v, -erased, erased * rate, log_decay, state]
    return [tensor.requires_grad_() for tensor in inputs]


SCANS: dict[str, tuple[Scan, Scan, Callable[..., list[Tensor]]]] = {
    "ssd": (ssd, ssd_by_loop, ssd_inputs),
    "gated_delta_rule": (gated_delta_rule, gated_delta_by_loop, gated_delta_inputs),
    "general_delta_rule": (general_delta_rule, general_delta_by_loop, general_delta_inputs),
}


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("name", SCANS)
def test_a_scan_equals_the_loop_with_all_gradients(name: str, length: int) -> None:
    scan, loop, make_inputs = SCANS[name]
    agree_with_gradients((scan, loop), make_inputs(length))


@pytest.mark.parametrize("name", SCANS)
def test_a_scan_in_float32_stays_near(name: str) -> None:
    scan, _, make_inputs = SCANS[name]
    inputs = make_inputs(3 * CHUNK_TOKENS)
    for actual, expected in zip(scan(*(x.float() for x in inputs)), scan(*inputs), strict=True):
        close(actual.double(), expected, 10 * SINGLE)


@pytest.mark.parametrize("name", SCANS)
def test_a_scan_passes_gradcheck_through_both_states(name: str) -> None:
    scan, _, make_inputs = SCANS[name]
    assert gradcheck(scan, make_inputs(3, size=2))
    assert gradcheck(scan, make_inputs(CHUNK_TOKENS + 2, size=2), fast_mode=True)


@pytest.mark.parametrize("name", SCANS)
def test_a_scan_begins_at_zero_and_splits_anywhere(name: str) -> None:
    scan, _, make_inputs = SCANS[name]
    *inputs, state = make_inputs(2 * CHUNK_TOKENS + 5)
    whole, final = scan(*inputs, torch.zeros_like(state))
    carried: Tensor | None = None
    for start, end in pairwise([0, 1, 8, 51, 2 * CHUNK_TOKENS + 5]):
        y, carried = scan(*(x[:, start:end] for x in inputs), carried)
        close(y, whole[:, start:end])
    assert carried is not None
    close(carried, final)


@pytest.mark.parametrize("name", SCANS)
def test_a_scan_rests_where_nothing_is_written(name: str) -> None:
    scan, _, make_inputs = SCANS[name]
    *inputs, state = make_inputs(CHUNK_TOKENS + 5)
    resting = [torch.zeros_like(x) for x in inputs]
    assert torch.equal(scan(*resting, state)[1], state)


def test_ssd_shares_one_group_of_keys_among_the_heads() -> None:
    inputs = ssd_inputs(CHUNK_TOKENS + 5, groups=1)
    agree_with_gradients((ssd, ssd_by_loop), inputs)


def test_ssd_without_decay_is_a_sum() -> None:
    q, k, v, log_decay, _ = ssd_inputs(CHUNK_TOKENS + 5)
    expected = ssd_by_loop(q, k, v, 0 * log_decay, torch.zeros(2, 3, 4, 5).double())
    close(ssd(q, k, v)[0], expected[0])


def convolved(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Torch's causal depthwise convolution of x (B, T, D)."""
    padded = pad(x.transpose(1, 2), (weight.shape[1] - 1, 0))
    return conv1d(padded, weight.unsqueeze(1), bias, groups=len(weight)).transpose(1, 2)


def linear_attention_by_loop(mixer: Any, x: Tensor) -> Tensor:
    """Equation 8: similarity by features in the place of the exponential, each token anew."""
    projected = x @ mixer.project_in.weight.t()
    if mixer.taps > 1:
        projected = convolved(projected, mixer.conv_weight, mixer.conv_bias)
    q, k, v = (part.unflatten(2, (mixer.heads, -1)) for part in projected.chunk(3, dim=2))
    outputs = []
    for t in range(x.shape[1]):
        features = (elu(q[:, t]) + 1).unsqueeze(1) * (elu(k[:, : t + 1]) + 1)
        similarity = features.sum(3, keepdim=True)  # (B, t + 1, H, 1)
        outputs.append((similarity * v[:, : t + 1]).sum(1) / (similarity.sum(1) + 1e-6))
    return torch.stack(outputs, dim=1).flatten(2) @ mixer.project_out.weight.t()


@pytest.mark.parametrize("taps", [1, 4])
def test_linear_attention_is_attention_with_features(taps: int) -> None:
    mixer = build("linear_attention", heads=2, taps=taps).blocks[0].mixer
    agree_with_loop(mixer, linear_attention_by_loop, normal(2, 37, 16))


def mamba2_by_loop(mixer: Any, x: Tensor) -> Tensor:
    projected = x @ mixer.in_proj.weight.t()
    gate, rest, dt = projected.split([32, 32 + 2 * 5, 4], dim=2)
    rest = silu(convolved(rest, mixer.conv_weight, mixer.conv_bias))
    u, B, C = rest.split([32, 5, 5], dim=2)
    u, dt = u.unflatten(2, (4, 8)), softplus(dt + mixer.dt_bias)
    state, outputs = torch.zeros(len(x), 4, 8, 5, dtype=x.dtype), []
    for t in range(x.shape[1]):
        decay = (-mixer.A_log.exp() * dt[:, t])[..., None, None].exp()
        written = dt[:, t, :, None, None] * u[:, t, :, :, None] * B[:, t, None, None, :]
        state = decay * state + written
        y_t = (state * C[:, t, None, None, :]).sum(3) + mixer.D[:, None] * u[:, t]
        outputs.append(y_t.flatten(1))
    y = torch.stack(outputs, dim=1) * silu(gate)
    y = mixer.norm_weight * y / (y.square().mean(2, keepdim=True) + 1e-5).sqrt()
    return y @ mixer.out_proj.weight.t()


def test_mamba2_is_the_loop_of_its_equations() -> None:
    mixer = build("mamba2", state=5).blocks[0].mixer
    agree_with_loop(mixer, mamba2_by_loop, normal(2, 37, 16))


def gated_deltanet_by_loop(mixer: Any, x: Tensor) -> Tensor:
    projected = x @ mixer.project_in.weight.t()
    qkv, gate, dt, beta = projected.split([64, 32, 4, 4], dim=2)
    qkv = silu(convolved(qkv, mixer.conv_weight, None))
    q, k, v = (part.unflatten(2, (4, -1)) for part in qkv.split([16, 16, 32], dim=2))
    q, k = (part / (part.square().sum(3, keepdim=True) + 1e-6).sqrt() for part in (q, k))
    log_decay = -mixer.A_log.exp() * softplus(dt + mixer.dt_bias)
    state = torch.zeros(len(x), 4, 4, 8, dtype=x.dtype)
    y, _ = gated_delta_by_loop(q / 2.0, k, v, beta.sigmoid(), log_decay, state)
    y = mixer.norm_weight * y / (y.square().mean(3, keepdim=True) + 1e-6).sqrt()
    return (y.flatten(2) * silu(gate)) @ mixer.project_out.weight.t()


def test_gated_deltanet_is_the_loop_of_its_equations() -> None:
    mixer = build("gated_deltanet").blocks[0].mixer
    agree_with_loop(mixer, gated_deltanet_by_loop, normal(2, 37, 16))


def agree_with_peer(body: Any, peer: Any, x: Tensor) -> None:
    """Outputs, gradients by x, and cached steps after a prefill, are those of transformers."""
    x.requires_grad_()
    agree_with_gradients(
        (lambda x: body(x)[0], lambda x: peer(inputs_embeds=x, use_cache=False)[0]), [x], SINGLE
    )
    peer.eval()
    with torch.no_grad():
        y, state = body(x[:, :11])
        found = peer(inputs_embeds=x[:, :11], use_cache=True)
        close(y, found[0], SINGLE)
        for t in range(11, x.shape[1]):
            y_t, state = body.step(x[:, t], state)
            found = peer_step(peer, x[:, t : t + 1], found)
            close(y_t, found[0][:, 0], SINGLE)


def peer_step(peer: Any, x: Tensor, found: Any) -> Any:
    """One token through a model of transformers with the cache that it returned."""
    for key in ("cache_params", "past_key_values", "state"):
        cache = getattr(found, key, None)
        if cache is not None:
            return peer(inputs_embeds=x, use_cache=True, **{key: cache})
    raise AssertionError(f"no cache in {list(found)}")


def test_mamba2_equals_transformers() -> None:
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
    body = build("mamba2", state=5)
    peer = Mamba2Model(config).double().train()
    for block, theirs in zip(body.blocks, peer.layers, strict=True):
        mixer = block.mixer
        theirs.norm = block.norm
        weights = {
            "conv1d.weight": mixer.conv_weight.unsqueeze(1),
            "conv1d.bias": mixer.conv_bias,
            "norm.weight": mixer.norm_weight,
        }
        for key in ("A_log", "D", "dt_bias", "in_proj.weight", "out_proj.weight"):
            weights[key] = mixer.get_parameter(key)
        theirs.mixer.load_state_dict(weights)
    peer.norm_f = body.norm
    agree_with_peer(body, peer, normal(3, 17, 16))


def test_gated_deltanet_equals_transformers_qwen3_next() -> None:
    from transformers import Qwen3NextConfig
    from transformers.models.qwen3_next.modeling_qwen3_next import Qwen3NextGatedDeltaNet

    config = Qwen3NextConfig(
        vocab_size=8,
        hidden_size=16,
        linear_num_value_heads=4,
        linear_num_key_heads=4,
        linear_key_head_dim=4,
        linear_value_head_dim=8,
        num_hidden_layers=1,
    )
    mixer = build("gated_deltanet").blocks[0].mixer
    peer = Qwen3NextGatedDeltaNet(config, 0).double()
    qkv, gate, dt, beta = mixer.project_in.weight.split([64, 32, 4, 4])
    # There the rows of one head lie together.
    parts = [*qkv.split([16, 16, 32]), gate]
    by_head = torch.cat([part.unflatten(0, (4, -1)) for part in parts], dim=1).flatten(0, 1)
    weights = {
        "in_proj_qkvz.weight": by_head,
        "in_proj_ba.weight": torch.stack([beta, dt], dim=1).flatten(0, 1),
        "conv1d.weight": mixer.conv_weight.unsqueeze(1),
        "norm.weight": mixer.norm_weight,
        "out_proj.weight": mixer.project_out.weight,
        "dt_bias": mixer.dt_bias,
        "A_log": mixer.A_log,
    }
    peer.load_state_dict(weights)
    x = normal(3, 37, 16).requires_grad_()
    agree_with_gradients((lambda x: mixer(x)[0], peer), [x], SINGLE)


def wkv4_inputs(length: int) -> list[Tensor]:
    """Keys of some hundred, that overflow unless a maximum is taken out."""
    inputs = [
        normal(4, seed=1).exp(),
        normal(4, seed=2),
        100 * normal(2, length, 4, seed=3),
        normal(2, length, 4, seed=4),
        normal(2, 4, seed=5),
        normal(2, 4, seed=6).exp(),
        normal(2, 4, seed=7),
    ]
    return [tensor.requires_grad_() for tensor in inputs]


def wkv4_flat(*inputs: Tensor) -> tuple[Tensor, ...]:
    w, u, k, v, *state = inputs
    y, final = wkv4(w, u, k, v, (state[0], state[1], state[2]))
    return y, *final


def wkv4_by_loop(*inputs: Tensor) -> tuple[Tensor, ...]:
    w, u, k, v, a, b, p = inputs
    outputs = []
    for k_t, v_t in zip(k.unbind(1), v.unbind(1), strict=True):
        top = torch.maximum(p, u + k_t)
        past, token = (p - top).exp(), (u + k_t - top).exp()
        outputs.append((past * a + token * v_t) / (past * b + token))
        top = torch.maximum(p - w, k_t)
        past, token = (p - w - top).exp(), (k_t - top).exp()
        a, b, p = past * a + token * v_t, past * b + token, top
    return torch.stack(outputs, dim=1), a, b, p


@pytest.mark.parametrize("length", LENGTHS)
def test_wkv4_equals_the_loop_with_all_gradients(length: int) -> None:
    agree_with_gradients((wkv4_flat, wkv4_by_loop), wkv4_inputs(length))


def test_wkv4_is_its_equation_without_the_maximum() -> None:
    w, u, k, v, *_ = (x.detach() for x in wkv4_inputs(9))
    k = k / 100
    for t in range(9):
        weights = [(-(t - 1 - s) * w + k[:, s]).exp() for s in range(t)]
        weights = torch.stack([*weights, (u + k[:, t]).exp()])  # (t + 1, B, E)
        expected = (weights * v[:, : t + 1].transpose(0, 1)).sum(0) / weights.sum(0)
        close(wkv4(w, u, k, v)[0][:, t], expected)


def test_wkv4_passes_gradcheck_through_both_states() -> None:
    inputs = wkv4_inputs(3)
    inputs[2] = normal(2, 3, 4, seed=3).requires_grad_()
    assert gradcheck(wkv4_flat, inputs)


def test_rwkv4_equals_transformers() -> None:
    from transformers import RwkvConfig, RwkvModel

    config = RwkvConfig(vocab_size=8, hidden_size=16, num_hidden_layers=2, intermediate_size=64)
    body = build("rwkv4")
    peer = RwkvModel(config).double().train()
    peer.blocks[0].pre_ln = nn.Identity()
    for index, theirs in enumerate(peer.blocks):
        time, channel = body.blocks[2 * index], body.blocks[2 * index + 1]
        theirs.ln1, theirs.ln2 = time.norm, channel.norm
        weights = {"time_decay": time.mixer.log_decay_rate, "time_first": time.mixer.bonus}
        for name, mix in zip(("key", "value", "receptance"), time.mixer.mix, strict=True):
            weights[f"time_mix_{name}"] = mix.view(1, 1, -1)
        for name in ("key", "value", "receptance", "output"):
            weights[f"{name}.weight"] = time.mixer.get_submodule(name).weight
        theirs.attention.load_state_dict(weights)
        weights = {}
        for name, mix in zip(("key", "receptance"), channel.mixer.mix, strict=True):
            weights[f"time_mix_{name}"] = mix.view(1, 1, -1)
        for name in ("key", "value", "receptance"):
            weights[f"{name}.weight"] = channel.mixer.get_submodule(name).weight
        theirs.feed_forward.load_state_dict(weights)
    peer.ln_out = body.norm
    # With more than one row the peer's single cached step mixes the rows up.
    agree_with_peer(body, peer, normal(1, 17, 16))


def rwkv7_time_mixing_by_loop(mixer: Any, x: Tensor, first: Tensor | None = None) -> Tensor:
    """Section 4 of the paper, with its wkv (value by key) for each head."""

    def low_rank(name: str, x: Tensor, activation: Callable[[Tensor], Tensor]) -> Tensor:
        part = mixer.get_submodule(name)
        y = activation(x @ part.down) @ part.up
        return y if part.bias is None else y + part.bias

    before = pad(x, (0, 0, 1, 0))[:, :-1]
    x_r, x_k, x_v, x_d, x_a, x_g = (x + (before - x) * mix for mix in mixer.mix)
    r, k = x_r @ mixer.receptance.weight.t(), x_k @ mixer.key.weight.t()
    v = x_v @ mixer.value.weight.t()
    if first is not None:
        v = v + low_rank("share", x_v, lambda x: x).sigmoid() * (first - v)
    a = low_rank("rate", x_a, lambda x: x).sigmoid()
    w = torch.exp(-math.exp(-0.5) * low_rank("decay", x_d, torch.tanh).sigmoid())
    g = low_rank("gate", x_g, torch.sigmoid)
    heads = [part.unflatten(2, (4, -1)) for part in (r, w, k * mixer.erased, a, v)]
    r, w, removed, a, v = heads
    removed = removed / (removed.square().sum(3, keepdim=True) + 1e-12).sqrt()
    k = (k * (1 + (a.flatten(2) - 1) * mixer.rewritten)).unflatten(2, (4, -1))
    wkv, outputs = torch.zeros(len(x), 4, 4, 4, dtype=x.dtype), []
    for t in range(x.shape[1]):
        erase = removed[:, t, :, :, None] * (a * removed)[:, t, :, None, :]
        wkv = wkv @ (torch.diag_embed(w[:, t]) - erase) + v[:, t, :, :, None] * k[:, t, :, None, :]
        read = (wkv * r[:, t, :, None, :]).sum(3)
        centred = read - read.mean(2, keepdim=True)
        normed = centred / (centred.square().mean(2, keepdim=True) + 64e-5).sqrt()
        scored = (r[:, t] * mixer.bonus.view(4, 4) * k[:, t]).sum(2, keepdim=True) * v[:, t]
        outputs.append(
            (normed.flatten(1) * mixer.norm_weight + mixer.norm_bias) + scored.flatten(1)
        )
    return (g * torch.stack(outputs, dim=1)) @ mixer.output.weight.t()


def test_rwkv7_time_mixing_is_the_loop_of_its_equations() -> None:
    mixer = build("rwkv7").blocks[0].mixer
    agree_with_loop(mixer, rwkv7_time_mixing_by_loop, normal(2, 37, 16))


def test_rwkv7_is_its_mixings_with_the_first_values_in_later_layers() -> None:
    body, x = build("rwkv7"), normal(2, 37, 16)
    hidden, first = x, None
    for time, channel in (body.blocks[:2], body.blocks[2:]):
        normed = time.norm(hidden)
        hidden = hidden + rwkv7_time_mixing_by_loop(time.mixer, normed, first)
        if first is None:
            before = pad(normed, (0, 0, 1, 0))[:, :-1]
            mixed = normed + (before - normed) * time.mixer.mix[2]
            first = mixed @ time.mixer.value.weight.t()
        normed = channel.norm(hidden)
        before = pad(normed, (0, 0, 1, 0))[:, :-1]
        key = (normed + (before - normed) * channel.mixer.mix) @ channel.mixer.key.weight.t()
        hidden = hidden + key.relu().square() @ channel.mixer.value.weight.t()
    close(body(x)[0], body.norm(hidden))


def mlstm_inputs(length: int, size: int = 4) -> list[Tensor]:
    """Input gates from e^-9 to e^9, and the m of a state that a call could have returned."""
    q, k, v, _, state = (x.detach() for x in ssd_inputs(length, size=size))
    log_input, forget = 3 * normal(2, length, 3, seed=6), 2 * normal(2, length, 3, seed=7)
    v = v[..., 1:].clone()  # the memory has one column more, n
    inputs = [q, k, v, log_input, forget.sigmoid().log(), state, normal(2, 3, seed=8).abs()]
    return [tensor.requires_grad_() for tensor in inputs]


def mlstm_flat(*inputs: Tensor) -> tuple[Tensor, ...]:
    y, (memory, m) = mlstm(*inputs[:5], (inputs[5], inputs[6]))
    return y, memory, m


def mlstm_by_loop(*inputs: Tensor) -> tuple[Tensor, ...]:
    """Equations 19 to 21 as they are, without a stabiliser; at the end divided by e^m."""
    q, k, v, log_input, log_forget, memory, m = inputs
    scaled = memory * m.exp()[..., None, None]
    C, n, outputs = scaled[..., :-1], scaled[..., -1], []
    for t in range(q.shape[1]):
        i, f = log_input[:, t].exp().unsqueeze(2), log_forget[:, t].exp().unsqueeze(2)
        C = f.unsqueeze(3) * C + (i * k[:, t]).unsqueeze(3) * v[:, t].unsqueeze(2)
        n = f * n + i * k[:, t]
        floor = (n * q[:, t]).sum(2, keepdim=True).abs().clamp(min=1.0)
        outputs.append((C * q[:, t].unsqueeze(3)).sum(2) / floor)
        m = torch.maximum(log_forget[:, t] + m, log_input[:, t].clamp(min=0.0))
    memory = torch.cat([C, n.unsqueeze(3)], dim=3) / m.exp()[..., None, None]
    return torch.stack(outputs, dim=1), memory, m


@pytest.mark.parametrize("length", LENGTHS)
def test_mlstm_equals_the_loop_with_all_gradients(length: int) -> None:
    agree_with_gradients((mlstm_flat, mlstm_by_loop), mlstm_inputs(length), FEW_CANCELLED)


def test_mlstm_passes_gradcheck_through_both_states() -> None:
    assert gradcheck(mlstm_flat, mlstm_inputs(3, size=2))


def test_mlstm_equals_transformers() -> None:
    from transformers.models.xlstm import modeling_xlstm

    q, k, v, log_input, _, *_ = (x.detach() for x in mlstm_inputs(2 * CHUNK_TOKENS + 5))
    log_input, forget = 50 * log_input, normal(2, 2 * CHUNK_TOKENS + 5, 3, seed=7)
    heads_first = [part.transpose(1, 2) for part in (q, k, v, log_input, forget)]
    found = modeling_xlstm.mlstm_recurrent_sequence_native(
        *heads_first, eps=0.0, dtype_state=torch.float64
    )
    # The peer divides q by sqrt(N), 2 here.
    y, _ = mlstm(q / 2, k, v, log_input, forget.sigmoid().log())
    assert log_input.max() > 300  # e^300 is beyond float32, and what is tested is the stabiliser
    close(y, found.transpose(1, 2), FEW_CANCELLED)


def test_mlstm_in_float32_survives_any_gate() -> None:
    q, k, v, log_input, _, *_ = (x.detach().float() for x in mlstm_inputs(9))
    for gate in (1e4, -1e4):
        log_forget = torch.full_like(log_input, gate).sigmoid().clamp(min=1e-30).log()
        y, (memory, m) = mlstm(q, k, v, torch.full_like(log_input, gate), log_forget)
        assert all(part.isfinite().all() for part in (y, memory, m))


def slstm_inputs(length: int, size: int = 2) -> list[Tensor]:
    """Input gates of some hundred, that overflow unless a maximum is taken out."""
    gates = normal(2, length, 3, 4, size, seed=1)
    gates[:, :, :, 1] *= 100
    inputs = [
        gates.flatten(3),
        normal(3, size, 4 * size, seed=2),
        normal(2, 3, size, seed=3).tanh(),
        normal(2, 3, size, seed=4),
        normal(2, 3, size, seed=5).exp(),
        normal(2, 3, size, seed=6),
    ]
    return [tensor.requires_grad_() for tensor in inputs]


def slstm_flat(*inputs: Tensor) -> tuple[Tensor, ...]:
    h, c, n, m = inputs[2:]
    y, final = slstm(inputs[0], inputs[1], (h, c, n, m))
    return y, *final


def slstm_by_loop(*inputs: Tensor) -> tuple[Tensor, ...]:
    gates, recurrent, h, c, n, m = inputs
    outputs = []
    for t in range(gates.shape[1]):
        summed = gates[:, t] + (h.unsqueeze(3) * recurrent).sum(2)
        z, i, f, o = summed.unflatten(2, (4, -1)).unbind(2)
        log_forget = f.sigmoid().log()
        before, m = m, torch.maximum(log_forget + m, i)
        c = (log_forget + before - m).exp() * c + (i - m).exp() * z.tanh()
        n = (log_forget + before - m).exp() * n + (i - m).exp()
        h = o.sigmoid() * c / n
        outputs.append(h)
    return torch.stack(outputs, dim=1), h, c, n, m


@pytest.mark.parametrize("length", [1, 2, 17])
def test_slstm_equals_the_loop_with_all_gradients(length: int) -> None:
    agree_with_gradients((slstm_flat, slstm_by_loop), slstm_inputs(length))


def test_slstm_is_its_equations_without_the_maximum() -> None:
    gates, recurrent, *_ = (x.detach() for x in slstm_inputs(9))
    gates = gates / 100
    h = c = n = torch.zeros(2, 3, 2, dtype=torch.float64)
    y, _ = slstm(gates, recurrent)
    for t in range(9):
        summed = gates[:, t] + (h.unsqueeze(3) * recurrent).sum(2)
        z, i, f, o = summed.unflatten(2, (4, -1)).unbind(2)
        c, n = f.sigmoid() * c + i.exp() * z.tanh(), f.sigmoid() * n + i.exp()
        h = o.sigmoid() * c / n
        close(y[:, t], h)


def test_slstm_passes_gradcheck_through_both_states() -> None:
    inputs = slstm_inputs(3)
    inputs[0] = normal(2, 3, 3, 8, seed=1).requires_grad_()
    assert gradcheck(slstm_flat, inputs)


def by_blocks(x: Tensor, part: Any) -> Tensor:
    """A block-diagonal product, with the whole matrix."""
    return x @ torch.block_diag(*part.weight.unbind(0))


def of_unit_deviation(y: Tensor) -> Tensor:
    centred = y - y.mean(3, keepdim=True)
    return (centred / (centred.square().mean(3, keepdim=True) + 1e-5).sqrt()).flatten(2)


def mlstm_block_by_loop(mixer: Any, x: Tensor) -> Tensor:
    u, z = (x @ mixer.project_up.weight.t()).chunk(2, dim=2)
    c = silu(convolved(u, mixer.convolution.weight, mixer.convolution.bias))
    q, k, v = by_blocks(c, mixer.q), by_blocks(c, mixer.k), by_blocks(u, mixer.v)
    gates = torch.cat([q, k, v], dim=2) @ mixer.gates.weight.t() + mixer.gates.bias
    q, k, v = (part.unflatten(2, (4, -1)) for part in (q, k / math.sqrt(8), v))
    nothing = torch.zeros(len(x), 4, 8, 9, dtype=x.dtype)
    log_forget = gates[..., 4:].sigmoid().log()
    y = mlstm_by_loop(q, k, v, gates[..., :4], log_forget, nothing, nothing[..., 0, 0])[0]
    y = of_unit_deviation(y) * mixer.norm_weight
    return ((y + mixer.skip * c) * silu(z)) @ mixer.project_down.weight.t()


def slstm_block_by_loop(mixer: Any, x: Tensor) -> Tensor:
    c = silu(convolved(x, mixer.convolution.weight, mixer.convolution.bias))
    parts = [by_blocks(x, mixer.z), by_blocks(c, mixer.i), by_blocks(c, mixer.f)]
    parts.append(by_blocks(x, mixer.o))
    gates = torch.stack([part.unflatten(2, (4, -1)) for part in parts], dim=3) + mixer.bias
    nothing = torch.zeros(len(x), 4, 4, dtype=x.dtype)
    cell = nothing, nothing, nothing, nothing - torch.inf
    y = slstm_by_loop(gates.flatten(3), mixer.recurrent, *cell)[0]
    return of_unit_deviation(y) * mixer.norm_weight


def test_xlstms_blocks_are_the_loops_of_their_equations() -> None:
    matrix, scalar, mlp = (block.mixer for block in build("xlstm").blocks)
    agree_with_loop(matrix, mlstm_block_by_loop, normal(2, 37, 16))
    agree_with_loop(scalar, slstm_block_by_loop, normal(2, 37, 16))
    x = normal(2, 5, 16)
    gate, value = (x @ mlp.project_up.weight.t()).chunk(2, dim=2)
    close(mlp(x)[0], (nn.functional.gelu(gate) * value) @ mlp.project_down.weight.t())


@pytest.mark.parametrize(("every", "expected"), [(0, ""), (1, "ssss"), (2, "msms"), (3, "mmsm")])
def test_xlstm_has_slstm_in_the_layers_asked_for(every: int, expected: str) -> None:
    body = build("xlstm", layers=4, slstm_every=every, mlp_ratio=0.0)
    kinds = [type(block.mixer).__name__[0].lower() for block in body.blocks]
    assert "".join(kinds) == (expected or "mmmm")


BAD_OPTIONS: list[tuple[str, dict[str, Any], str]] = [
    ("linear_attention", {"heads": 0}, "heads must be at least 1, not 0"),
    ("linear_attention", {"heads": 3}, "heads = 3 must divide width 16; nearest widths: 15 or 18"),
    ("linear_attention", {"taps": 0}, "taps must be at least 1, not 0"),
    ("mamba2", {"state": 0}, "state must be at least 1, not 0"),
    ("mamba2", {"heads": 5, "expand": 2}, "5 must divide width 16"),
    ("mamba2", {"heads": 0}, "heads must be at least 1, not 0"),
    ("mamba2", {"expand": -1}, "expand must be at least 1, not -1"),
    ("gated_deltanet", {"heads": 5}, "heads = 5 must divide width 16"),
    ("gated_deltanet", {"expand": 0}, "expand must be at least 1, not 0"),
    ("rwkv4", {"mlp_ratio": -1.0}, "mlp_ratio must be at least 0, not -1.0"),
    ("rwkv4", {"width": 0}, "width must be at least 1, not 0"),
    ("rwkv7", {"rank": 0}, "rank must be at least 1, not 0"),
    ("rwkv7", {"heads": 3}, "heads = 3 must divide width 16"),
    ("xlstm", {"slstm_every": -1}, "slstm_every must be at least 0, not -1"),
    ("xlstm", {"heads": 6}, "6 must divide width 16"),
    ("xlstm", {"expand": 0}, "expand must be at least 1, not 0"),
]


@pytest.mark.parametrize(("name", "options", "message"), BAD_OPTIONS, ids=str)
def test_a_bad_option_is_an_error_that_names_it(
    name: str, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError) as error:
        build(name, **{"width": 16, **options})
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("linear_attention", {"heads": 3}),
        ("mamba2", {"heads": 6, "expand": 3}),
        ("gated_deltanet", {"heads": 5}),
        ("rwkv7", {"heads": 3}),
        ("xlstm", {"heads": 3, "expand": 1}),
        ("xlstm", {"heads": 6, "expand": 4}),
    ],
)
def test_width_multiples_are_those_that_can_be_built(name: str, options: dict[str, Any]) -> None:
    multiple = ARCHITECTURES[name].width_multiple(**options)
    body = build(name, multiple, **options)
    assert body(normal(1, 3, multiple))[0].shape == (1, 3, multiple)
    with pytest.raises(ValueError, match="must divide width"):
        build(name, 2 * multiple + 1, **options)


def test_parameter_groups_are_as_the_papers_ask() -> None:
    (group,) = build("mamba2", layers=1).param_groups()
    assert group.weight_decay == 0.0
    assert len(group.parameters) == 3
    scales = [group.learning_rate_scale for group in build("rwkv4", layers=1).param_groups()]
    assert scales == [2.0, 3.0, 1.0, 1.0]
    rwkv7 = build("rwkv7", layers=1)
    decay, rest, mix = rwkv7.param_groups()
    assert decay.learning_rate_scale == 2.0
    grouped = {id(p) for group in (decay, rest, mix) for p in group.parameters}
    ungrouped = {name for name, p in rwkv7.blocks.named_parameters() if id(p) not in grouped}
    assert {name.split(".", 2)[2] for name in ungrouped if ".mixer." in name} == {
        *(f"{part}.weight" for part in ("receptance", "key", "value", "output"))
    }


def test_initial_decays_are_those_of_the_papers() -> None:
    for name in ("mamba2", "gated_deltanet"):
        torch.manual_seed(0)
        mixer = ARCHITECTURES[name](64, heads=64).blocks[0].mixer
        assert 1.0 <= mixer.A_log.exp().min() < mixer.A_log.exp().max() <= 16.0
        dt = softplus(mixer.dt_bias)
        assert 0.999e-3 < dt.min() < dt.max() < 1.001e-1
    rates = ARCHITECTURES["rwkv4"](64).blocks[0].mixer.log_decay_rate
    assert rates[[0, -1]].tolist() == [-5.0, 3.0]
    low_rank = ARCHITECTURES["rwkv7"](64).blocks[0].mixer.decay
    assert low_rank(torch.ones(1, 1, 64))[0, 0, [0, -1]].tolist() == pytest.approx([-6.5, -1.5])
