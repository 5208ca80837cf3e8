"""Bad options and bad inputs are errors that name the value and how to mend it."""

from typing import Any

import pytest
import torch
from torch import Tensor

from architectures import ARCHITECTURES
from architectures.gru import Gru
from architectures.layers.bidirectional import BidirectionalPair
from architectures.layers.residual import Residual
from bench.certify.finding import rows_of

CAUSAL = [name for name in ARCHITECTURES if ARCHITECTURES[name].causal]
WRAPPERS = ("hybrid", "hf")  # their layers are those of the bodies inside
LAYERED = [name for name in CAUSAL if name not in WRAPPERS]


def normal(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def build(name: str, width: int = 16, **options: Any) -> Any:
    architecture: Any = ARCHITECTURES[name]
    return architecture(width, **options)


BAD_OPTIONS: list[tuple[str, dict[str, Any], str]] = [
    ("gru", {"width": 0}, "width must be at least 1, not 0"),
    ("gru_stack", {"width": 0}, "width must be at least 1, not 0"),
    ("s4d", {"width": -3}, "width must be at least 1, not -3"),
    ("transformer", {"width": 0}, "width must be at least 1, not 0"),
    *[(name, {"layers": 0}, "layers must be at least 1, not 0") for name in LAYERED],
    ("bilstm_stack", {"layers": -1}, "layers must be at least 1, not -1"),
    *[(name, {"dropout": 1.0}, "dropout must be at least 0 and less than 1") for name in LAYERED],
    ("bilstm_stack", {"dropout": -0.1}, "dropout must be at least 0"),
    ("transformer", {"attention_dropout": 2.0}, "attention_dropout must be"),
    ("transformer", {"max_length": 0}, "max_length must be at least 1, not 0"),
    ("lstm", {"mlp_ratio": float("inf")}, "mlp_ratio must be finite, not inf"),
    ("lstm_stack", {"forget_bias": float("nan")}, "forget_bias must be finite, not nan"),
    ("lstm", {"mlp_ratio": -1.0}, "mlp_ratio must be at least 0"),
    ("rnn", {"init": "zeros"}, "init must be one of default, orthogonal, identity, not 'zeros'"),
    ("rnn_stack", {"nonlinearity": "sine"}, "nonlinearity must be one of tanh, relu"),
    ("bilstm_stack", {"width": 7}, "must divide width 7; nearest widths: 6 or 8"),
    ("transformer", {"width": 18, "heads": 4}, "nearest widths: 16 or 24"),
    ("transformer", {"heads": 0}, "heads must be at least 1"),
    ("transformer", {"rotary_base": 0.0}, "rotary_base must be at least 1"),
    ("s4d", {"state": 0}, "state must be at least 2"),
    ("s4d", {"state": 7}, "state must be even"),
    ("s4d", {"dt_min": 0.2}, "0 < dt_min <= dt_max, not 0.2 and 0.1"),
    ("s4d", {"init": "fout"}, "init must be one of legs, inv, lin"),
    ("mamba", {"state": 0}, "state must be at least 1"),
    ("mamba", {"taps": 0}, "taps must be at least 1"),
    ("mamba", {"expand": 0}, "expand must be at least 1"),
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
    ("mingru", {"expand": 0}, "expand must be at least 1, not 0"),
    ("minlstm", {"candidate": "log"}, "candidate must be one of linear, positive, not 'log'"),
    ("s4", {"state": 1}, "state must be at least 2, not 1"),
    ("s4", {"state": 7}, "state must be even (conjugate pairs), not 7: 8?"),
    ("s4", {"dt_min": 0.0}, "give 0 < dt_min <= dt_max, not 0.0 and 0.1"),
    ("s5", {"state": 1}, "state must be at least 2, not 1"),
    ("s5", {"state": 10, "init_blocks": 2}, "state must be a multiple of 4"),
    ("s5", {"init_blocks": 0}, "init_blocks must be at least 1"),
    ("s5", {"dt_min": 0.2}, "give 0 < dt_min <= dt_max, not 0.2 and 0.1"),
    ("lru", {"state": 0}, "state must be at least 1, not 0"),
    ("lru", {"r_min": 0.9, "r_max": 0.5}, "give 0 <= r_min <= r_max <= 1, not 0.9 and 0.5"),
    ("lru", {"r_max": 1.1}, "r_max <= 1, not 0.0 and 1.1"),
    ("lru", {"max_phase": 7.0}, "max_phase must be above 0 and at most 2 pi, not 7.0"),
    ("bidirectional", {"inner": "gruu"}, "no architecture 'gruu'; did you mean 'gru'? choices:"),
    ("bidirectional", {"inner": "bilstm_stack"}, "already reads both ways"),
    ("bidirectional", {"inner": "bidirectional"}, "already reads both ways"),
    ("bidirectional", {"options": {"layer": 1}}, "no option 'layer'; did you mean 'layers'?"),
    ("bidirectional", {"options": {"layers": 0}}, "layers must be at least 1"),
]


@pytest.mark.parametrize(("name", "options", "message"), BAD_OPTIONS, ids=str)
def test_a_bad_option_is_an_error_that_names_it(
    name: str, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError) as error:
        build(name, **options)
    assert message in str(error.value)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_bad_input_is_an_error_that_says_what_is_wrong(name: str) -> None:
    body = build(name)
    for x, lengths, message in [
        (normal(3, 0, 16), None, "no tokens"),
        (normal(0, 5, 16), None, "no rows"),
        (normal(3, 5, 16).long(), None, "floating-point numbers, not of torch.int64"),
        (normal(3, 5, 7), None, "width 16, but x has width 7"),
        (normal(3, 16), None, "(batch, time, width), not of shape (3, 16)"),
        (normal(3, 5, 16), torch.tensor([5, 5]), "lengths must be 3 whole numbers"),
        (normal(3, 5, 16), torch.tensor([5.0, 5.0, 5.0]), "lengths must be 3 whole numbers"),
        (normal(3, 5, 16), torch.tensor([5, 0, 5]), "lengths must lie between 1 and 5"),
        (normal(3, 5, 16), torch.tensor([5, 6, 5]), "lengths must lie between 1 and 5"),
    ]:
        with pytest.raises(ValueError) as error:
            body(x, lengths=lengths)
        assert message in str(error.value)


@pytest.mark.parametrize("name", CAUSAL)
def test_a_state_of_other_rows_is_refused(name: str) -> None:
    body = build(name)
    _, state = body(normal(3, 5, 16))
    for call in (lambda: body(normal(2, 5, 16), state), lambda: body.step(normal(2, 16), state)):
        with pytest.raises(
            ValueError, match="the state is of a batch of 3, but x is of a batch of 2"
        ):
            call()


@pytest.mark.parametrize("name", CAUSAL)
def test_a_state_without_rows_or_of_another_kind_is_refused(name: str) -> None:
    body, x = build(name), normal(2, 5, 16)
    _, state = body(x)
    for wrong, message in [
        (rows_of(state, slice(0)), "the state is of a batch of 0, but x is of a batch of 2"),
        ((), "state"),
        ([], "state"),
        ("h", "state"),
    ]:
        with pytest.raises(ValueError, match=message):
            body(x, wrong)
        with pytest.raises(ValueError, match=message):
            body.step(x[:, 0], wrong)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_a_step_without_rows_is_an_error(name: str) -> None:
    with pytest.raises(ValueError, match="no rows"):
        build(name).step(normal(0, 16))


def test_a_state_of_another_body_is_refused() -> None:
    x = normal(3, 5, 16)
    _, one_layer = build("gru", layers=1)(x)
    with pytest.raises(ValueError, match="the state has 1 layers, but this body has 2"):
        build("gru")(x, one_layer)
    _, pair = build("lstm_stack")(x)
    with pytest.raises(ValueError, match="the state of gru is one tensor h"):
        build("gru_stack")(x, pair)
    with pytest.raises(ValueError, match=r"the state of lstm is the pair \(h, c\)"):
        build("lstm_stack")(x, pair[0])
    _, deeper = build("lstm_stack", layers=3)(x)
    with pytest.raises(ValueError, match=r"has shape \(3, 2, 16\), not \(3, 3, 16\)"):
        build("lstm_stack")(x, deeper)


def test_bodies_of_other_widths_do_not_compose() -> None:
    with pytest.raises(ValueError, match=r"widths \[4\] in a body of 5"):
        Residual(5, [Gru(4)])
    with pytest.raises(ValueError, match="widths 4 and 5"):
        BidirectionalPair(Gru(4), Gru(5))
