"""Bodies made of other bodies keep the laws and do what their parts do."""

from typing import Any

import pytest
import torch

from architectures import ARCHITECTURES
from architectures.hybrid import Hybrid
from bench.certify.laws import LAWS
from tests.agreement import normal

VARIANTS: list[dict[str, Any]] = [
    {"pattern": ["gru_stack", "transformer"], "options": {"transformer": {"window": 5}}},
    {"pattern": ["lstm_stack"], "repeats": 2},
    {"pattern": ["gru_stack", "transformer_bidirectional"]},
    {"pattern": ["gru_stack", "hybrid"], "options": {"hybrid": {"pattern": ["s4d"]}}},
]


def build(**options: Any) -> Hybrid:
    torch.manual_seed(0)
    return Hybrid(16, **options).double()


@pytest.mark.parametrize("options", VARIANTS, ids=str)
@pytest.mark.parametrize("law", LAWS)
def test_every_hybrid_keeps_the_laws(law: str, options: dict[str, Any]) -> None:
    finding = LAWS[law](lambda: Hybrid(16, **options), torch.float64, torch.device("cpu"))
    assert finding.holds, finding


def test_a_hybrid_is_its_layers_one_after_the_other() -> None:
    body = build(pattern=["gru_stack", "transformer"], repeats=2)
    x = normal(3, 7, 16)
    y = x
    for inner in body.inner_bodies():
        y, _ = inner(y)
    assert torch.equal(body(x)[0], y)
    kinds = [type(inner).__name__ for inner in body.inner_bodies()]
    assert kinds == ["GruStack", "Transformer"] * 2
    names = ("gru_stack", "transformer")
    alone = [ARCHITECTURES[name](16, layers=1).double() for name in names]  # type: ignore[call-arg]
    assert body.flops_per_token(50) == 2 * sum(inner.flops_per_token(50) for inner in alone)
    assert body.kernel == "+".join(inner.kernel for inner in alone) == "aten+sdpa-flash"


def test_a_hybrid_is_what_its_layers_are_together() -> None:
    assert build(pattern=["gru_stack"]).causal
    assert not build(pattern=["gru_stack", "bilstm_stack"]).causal
    assert not build(pattern=["gru_stack"]).state_grows
    assert build(pattern=["gru_stack", "transformer"]).state_grows
    options = {"transformer": {"heads": 3}}
    assert Hybrid.width_multiple(pattern=["bilstm_stack", "transformer"], options=options) == 6
    assert len(build(pattern=["mamba", "gru"]).param_groups()) == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pattern": []}, "pattern is an empty list"),
        ({"pattern": ["gru", "lstmm"]}, "no architecture 'lstmm'; did you mean 'lstm'?"),
        ({"repeats": 0}, "repeats must be at least 1, not 0"),
        ({"pattern": ["gru"], "options": {"lstm": {}}}, "options of 'lstm', which is not in"),
        ({"pattern": ["gru"], "options": {"gru": {"layer": 1}}}, "gru has no option 'layer'"),
    ],
)
def test_a_bad_option_is_an_error_that_names_it(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError) as error:
        build(**options)
    assert message in str(error.value)


def test_a_state_of_another_hybrid_is_refused() -> None:
    _, state = build(pattern=["gru_stack"])(normal(3, 5, 16))
    with pytest.raises(ValueError, match="the state has 1 layers, but this body has 2"):
        build(pattern=["gru_stack"], repeats=2)(normal(3, 5, 16), state)
