"""Scans of matrix states against loops, and what bodies with such states begin with."""

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck
from torch.nn.functional import softplus

from architectures import ARCHITECTURES
from architectures.kernels.delta_rule import gated_delta_rule, general_delta_rule
from architectures.kernels.ssd import CHUNK_TOKENS, ssd
from tests.agreement import SINGLE, agree_with_gradients, close, normal, perturbed
from tests.matrix_scans import (
    LENGTHS,
    gated_delta_by_loop,
    gated_delta_inputs,
    general_delta_by_loop,
    general_delta_inputs,
    ssd_by_loop,
    ssd_inputs,
)

Scan = Callable[..., tuple[Tensor, Tensor]]
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
    body = perturbed(name, multiple, **options)
    assert body(normal(1, 3, multiple))[0].shape == (1, 3, multiple)
    with pytest.raises(ValueError, match="must divide width"):
        perturbed(name, 2 * multiple + 1, **options)


def test_parameter_groups_are_as_the_papers_ask() -> None:
    (group,) = perturbed("mamba2", layers=1).param_groups()
    assert group.weight_decay == 0.0
    assert len(group.parameters) == 3
    scales = [group.learning_rate_scale for group in perturbed("rwkv4", layers=1).param_groups()]
    assert scales == [2.0, 3.0, 1.0, 1.0]
    rwkv7 = perturbed("rwkv7", layers=1)
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
