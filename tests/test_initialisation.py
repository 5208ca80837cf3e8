"""What every architecture begins with, and which parameters learn and decay in ways of their own.

The constants are the papers' or their authors' code's: each architecture's file says which.
"""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from architectures import ARCHITECTURES
from architectures.body import Body
from bench.spec import TrainingSpec
from bench.training.optimiser import make_optimiser

DRAWN = 1e-6  # initial values are drawn in float32
SPREAD = 0.05  # of a standard deviation estimated from a thousand draws and more: 2 standard errors
LEARNING_RATE = 0.01


def build(name: str, width: int = 64, **options: Any) -> Any:
    architecture: Any = ARCHITECTURES[name]
    torch.manual_seed(0)
    return architecture(width, **options)


def close(actual: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(actual, expected, rtol=DRAWN, atol=DRAWN)


def check_deviation(weight: Tensor, expected: float) -> None:
    """The mean is 0 and the standard deviation the one expected."""
    assert weight.std().item() == pytest.approx(expected, rel=SPREAD)
    assert abs(weight.mean().item()) < 4 * expected / math.sqrt(weight.numel())


def check_orthogonal(weight: Tensor, gain: float = 1.0) -> None:
    """Of the two products of the weight with itself the smaller is the identity, but for gain."""
    small = weight if weight.shape[0] <= weight.shape[1] else weight.T
    close(small @ small.T, gain**2 * torch.eye(len(small)))


def test_rwkv7_begins_as_its_authors_code() -> None:
    layers = 3
    body = build("rwkv7", layers=layers, heads=4)
    channel = torch.arange(64) / 64
    for layer in range(layers):
        mixer, mlp = body.blocks[2 * layer].mixer, body.blocks[2 * layer + 1].mixer
        depth, remaining = layer / 2, 1 - layer / 3
        exponents = {"r": 0.2, "k": 0.7, "v": 0.7, "w": 0.9, "a": 0.9, "g": 0.2}
        for mix, exponent in zip(mixer.mix, exponents.values(), strict=True):
            close(mix, 1 - channel ** (exponent * remaining))
        along = torch.arange(64) / 63
        close(mixer.decay.bias, -7 + 5 * along ** (0.85 + depth**0.5) + 0.5)
        close(mixer.rate.bias, torch.zeros(64))
        assert mixer.gate.bias is None
        assert (mixer.share is None) == (layer == 0)
        if layer:
            close(mixer.share.bias, torch.ones(64))
        for part in (mixer.decay, mixer.rate, mixer.gate, mixer.share):
            if part is not None:
                assert not part.down.any()
                check_orthogonal(part.up, 0.1)
        close(mixer.erased, torch.full((64,), 0.85))
        close(mixer.rewritten, torch.ones(64))
        assert not mixer.bonus.any()
        close(mixer.norm_weight, torch.full((64,), ((layer + 1) / 3) ** 0.7))
        check_orthogonal(mixer.receptance.weight)
        check_orthogonal(mixer.key.weight, 0.1)
        check_orthogonal(mixer.value.weight)
        close(mlp.mix, 1 - channel ** (remaining**4))
        check_orthogonal(mlp.key.weight)
        assert mixer.output.weight.abs().min() > 0
        assert mlp.value.weight.abs().min() > 0


def test_rwkv7_raises_the_gain_of_a_rank_above_the_width() -> None:
    check_orthogonal(build("rwkv7", 16, rank=64).blocks[0].mixer.decay.up, 0.1 * 2.0)


def test_rwkv4_begins_as_its_authors_code() -> None:
    layers = 3
    body = build("rwkv4", layers=layers)
    channel, along = torch.arange(64) / 64, torch.arange(64) / 63
    for layer in range(layers):
        mixer, mlp = body.blocks[2 * layer].mixer, body.blocks[2 * layer + 1].mixer
        depth, remaining = layer / 2, 1 - layer / 3
        close(mixer.log_decay_rate, -5 + 8 * along ** (0.7 + 1.3 * depth))
        zigzag = torch.tensor([0.0, 0.5, -0.5]).repeat(22)[:64]
        close(mixer.bonus, math.log(0.3) + zigzag)
        key, value, receptance = mixer.mix
        close(key, channel**remaining)
        close(value, channel**remaining + 0.3 * depth)
        close(receptance, channel ** (0.5 * remaining))
        close(mlp.mix, (channel**remaining).repeat(2, 1))
        for part in (mixer.key, mixer.value, mixer.receptance, mixer.output, mlp.receptance):
            check_orthogonal(part.weight)
        check_orthogonal(mlp.key.weight, 2.0)  # 4 D rows
        check_orthogonal(mlp.value.weight)


def test_xlstm_begins_as_its_authors_code() -> None:
    body = build("xlstm", layers=4, heads=4)
    reading, writing = math.sqrt(2 / (5 * 64)), 2 / (4 * math.sqrt(64))
    along, depths = torch.arange(16) / 15, iter([1 / 3, 1.0])
    for block in body.blocks:
        mixer = block.mixer
        if hasattr(mixer, "gates"):
            assert not mixer.gates.weight.any()
            close(mixer.gates.bias[4:], torch.tensor([3.0, 4.0, 5.0, 6.0]))
            for part in (mixer.q, mixer.k, mixer.v, mixer.project_up):
                check_deviation(part.weight, reading)
            check_deviation(mixer.project_down.weight, writing)
        elif hasattr(mixer, "recurrent"):
            assert not mixer.recurrent.any()
            close(mixer.bias[:, 2], (5 - 12 * along ** (0.3 + 1.3 * next(depths))).repeat(4, 1))
            assert not mixer.bias[:, [0, 1, 3]].any()
            for part in (mixer.z, mixer.i, mixer.f, mixer.o):
                check_deviation(part.weight, reading)
        else:
            check_deviation(mixer.project_up.weight, reading)
            check_deviation(mixer.project_down.weight, writing)


def test_mlstms_input_biases_are_drawn() -> None:
    mixer = build("xlstm", 1024, layers=1, heads=1024).blocks[0].mixer
    check_deviation(mixer.gates.bias[:1024], 0.1)


@pytest.mark.parametrize("name", ["mamba2", "gated_deltanet"])
def test_decays_of_heads_begin_as_mamba2s(name: str) -> None:
    mixer = build(name, 1024, heads=1024, layers=1).blocks[0].mixer
    decay, dt = mixer.A_log.exp(), softplus(mixer.dt_bias)
    assert 1 - DRAWN <= decay.min() < 1.1
    assert 15.9 < decay.max() <= 16 + 10 * DRAWN
    assert decay.mean().item() == pytest.approx((1 + 16) / 2, rel=SPREAD)
    check_log_uniform(dt, 1e-3, 1e-1)


def check_log_uniform(drawn: Tensor, low: float, high: float) -> None:
    assert low * 0.999 < drawn.min() < drawn.max() < high * 1.001
    middle = (math.log(low) + math.log(high)) / 2
    spread = (math.log(high) - math.log(low)) / math.sqrt(12)
    assert drawn.log().mean().item() == pytest.approx(middle, abs=4 * spread / len(drawn) ** 0.5)
    assert drawn.log().std().item() == pytest.approx(spread, rel=SPREAD)


def test_mamba_begins_as_its_paper() -> None:
    mixer = build("mamba", 512, layers=1, state=5).blocks[0].mixer
    check_log_uniform(softplus(mixer.dt_proj.bias), 1e-3, 1e-1)
    close(mixer.A_log.exp(), torch.arange(1.0, 6).repeat(1024, 1))
    assert torch.equal(mixer.D, torch.ones(1024))
    bound = 32**-0.5  # R = D / 16 = 32
    assert 0.99 * bound < mixer.dt_proj.weight.abs().max() <= bound
    assert torch.equal(build("mamba2", layers=1).blocks[0].mixer.D, torch.ones(4))


def test_lru_begins_with_the_papers_variances() -> None:
    mixer = build("lru", 128, layers=1, state=200).blocks[0].mixer
    for part in range(2):
        check_deviation(mixer.B[..., part], math.sqrt(1 / (2 * 128)))
        check_deviation(mixer.C[..., part], math.sqrt(1 / 200))
    check_deviation(build("lru", 2048, layers=1, state=2).blocks[0].mixer.D, 1.0)


@pytest.mark.parametrize("name", ["s4", "s4d"])
def test_s4_and_s4d_begin_with_a_complex_normal_c_and_log_uniform_dt(name: str) -> None:
    mixer = build(name, 1024, layers=1, state=8).blocks[0].mixer
    check_deviation(mixer.C, math.sqrt(0.5))
    check_deviation(mixer.D, 1.0)
    check_log_uniform(mixer.log_dt.exp(), 1e-3, 1e-1)
    close(mixer.log_decay.exp(), torch.full((1024, 4), 0.5))


def test_s5_begins_with_a_log_uniform_dt_for_each_state() -> None:
    mixer = build("s5", 16, layers=1, state=2048, init_blocks=128).blocks[0].mixer
    check_log_uniform(mixer.log_dt.exp(), 1e-3, 1e-1)


# Parameters of one layer that a paper singles out, as (decay, learning rate) once the run has
# asked for a decay of 0.3 and a rate of 0.01; of the rest, matrices decay and vectors do not.
FLAT, CAPPED = (0.0, LEARNING_RATE), (0.0, 1e-3)
SPECIAL: dict[str, dict[str, tuple[float, float]]] = {
    "s4": dict.fromkeys(["log_dt", "log_decay", "frequency", "P", "B"], CAPPED),
    "s4d": dict.fromkeys(["log_dt", "log_decay", "frequency"], CAPPED),
    "s5": dict.fromkeys(["log_dt", "log_decay", "frequency", "B"], CAPPED),
    "lru": dict.fromkeys(["nu", "theta", "gamma_log", "B"], (0.0, 0.25 * LEARNING_RATE)),
    "mamba": dict.fromkeys(["A_log", "D", "dt_proj.bias"], FLAT),
    "mamba2": dict.fromkeys(["A_log", "D", "dt_bias"], FLAT),
    "gated_deltanet": dict.fromkeys(["A_log", "dt_bias"], FLAT),
    "rwkv4": {
        "log_decay_rate": (0.0, 2 * LEARNING_RATE),
        "bonus": (0.0, 3 * LEARNING_RATE),
        "mix": FLAT,
    },
    "rwkv7": {
        "decay.bias": (0.0, 2 * LEARNING_RATE),
        **dict.fromkeys(["mix", "erased", "rewritten", "bonus"], FLAT),
        **{f"{part}.{side}": FLAT for part in ("decay", "rate", "gate") for side in ("down", "up")},
    },
}


class Model(nn.Module):
    """A body as the optimiser takes it."""

    def __init__(self, body: Body) -> None:
        super().__init__()
        self.body = body


@pytest.mark.parametrize("name", [name for name in ARCHITECTURES if name != "hf"])
def test_parameters_learn_and_decay_as_the_papers_ask(name: str) -> None:
    body = build(name, 16)
    model: Any = Model(body)
    training = TrainingSpec(learning_rate=LEARNING_RATE, weight_decay=0.3)
    set_up = {
        id(parameter): (group["weight_decay"], group["lr"])
        for group in make_optimiser(model, training).param_groups
        for parameter in group["params"]
    }
    assert len(set_up) == len(list(body.parameters()))
    special = SPECIAL.get(name, {})
    first = body.blocks[0].mixer if special else None
    for key, expected in special.items():
        assert set_up[id(first.get_parameter(key))] == pytest.approx(expected), key
    if name in ("hybrid", "bidirectional"):
        return
    for key, parameter in body.named_parameters():
        short = key.split(".mixer.", 1)[-1]
        if short in special or short.startswith("share."):
            continue
        decay = 0.3 if parameter.dim() >= 2 and short != "mix" else 0.0
        assert set_up[id(parameter)] == (decay, LEARNING_RATE), key


CLASSICAL = ["rnn", "irnn", "lstm", "gru", "rnn_stack", "lstm_stack", "gru_stack", "bilstm_stack"]


def cells(body: nn.Module) -> list[nn.RNNBase]:
    return [module for module in body.modules() if isinstance(module, nn.RNNBase)]


@pytest.mark.parametrize("name", CLASSICAL)
def test_every_classical_one_can_learn_its_initial_state(name: str) -> None:
    plain, learned = build(name, 6), build(name, 6, learn_initial_state=True)
    initial = {key for key, _ in learned.named_parameters() if "initial_state" in key}
    assert initial
    assert not any("initial_state" in key for key, _ in plain.named_parameters())
    # It begins at 0, which is what no learned state begins at.
    x = torch.randn(2, 5, 6, generator=torch.Generator().manual_seed(0))
    close(learned(x)[0], plain(x)[0])
    with torch.no_grad():
        for key, parameter in learned.named_parameters():
            if key in initial:
                parameter.copy_(torch.linspace(0, 1, parameter.shape[1]).expand_as(parameter))
    assert (learned(x)[0] - plain(x)[0]).abs().max() > 0.01


@pytest.mark.parametrize("name", [name for name in CLASSICAL if name != "irnn"])
def test_every_classical_one_can_begin_orthogonal(name: str) -> None:
    found = cells(build(name, 6, init="orthogonal"))
    assert found
    for cell in found:
        for key, weight in cell.named_parameters():
            if key.startswith("weight_hh"):
                for gate in weight.split(cell.hidden_size):
                    check_orthogonal(gate)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("irnn", {}),
        ("rnn", {"init": "identity", "nonlinearity": "relu"}),
        ("rnn_stack", {"init": "identity", "nonlinearity": "relu"}),
    ],
)
def test_simple_ones_can_begin_as_le_et_al_have_it(name: str, options: dict[str, Any]) -> None:
    found = cells(build(name, 64, **options))
    assert found
    for cell in found:
        assert cell.mode == "RNN_RELU"
        for key, weight in cell.named_parameters():
            if key.startswith("weight_hh"):
                assert torch.equal(weight, torch.eye(64))
            elif key.startswith("bias"):
                assert not weight.any()
            else:
                check_deviation(weight, 1e-3)


@pytest.mark.parametrize("name", ["lstm", "gru", "lstm_stack", "gru_stack", "bilstm_stack"])
def test_gated_ones_refuse_to_begin_as_an_identity(name: str) -> None:
    with pytest.raises(ValueError, match="init must be one of default, orthogonal, not"):
        build(name, 6, init="identity")


@pytest.mark.parametrize(
    ("check", "wrong"),
    [
        (lambda weight: check_deviation(weight, 1.0), 1.2 * torch.randn(64, 64)),
        (lambda weight: check_deviation(weight, 1.0), torch.randn(64, 64) + 0.2),
        (check_orthogonal, 1.01 * torch.eye(4)),
        (lambda weight: check_log_uniform(weight, 0.1, 0.9), torch.linspace(0.1, 0.9, 1000)),
    ],
    ids=["deviation", "mean", "gain", "uniform"],
)
def test_a_check_sees_a_wrong_value(check: Callable[[Tensor], None], wrong: Tensor) -> None:
    with pytest.raises(AssertionError):
        check(wrong)
