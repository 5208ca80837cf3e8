"""Native operations against the references in float64: outputs and every gradient."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from architectures.kernels import causal_convolution as convolution
from architectures.kernels import delta_rule as delta
from architectures.kernels import linear_scan as linear
from architectures.kernels import recurrence
from architectures.kernels import selective_scan as selective
from architectures.kernels import wkv4 as wkv
from architectures.kernels.native import library
from architectures.kernels.paths import recorded
from architectures.layers.recurrent import RecurrentStack
from tests.native_operations import (
    LENGTHS,
    OPERATIONS,
    RECURRENT,
    SINGLE,
    WIDTHS,
    error,
    gated_delta_inputs,
    general_delta_inputs,
    gru_inputs,
    linear_inputs,
    normal,
    rnn_inputs,
    selective_inputs,
    single,
    wkv4,
    wkv4_reference,
    wkv_inputs,
)


@pytest.fixture(autouse=True)
def _native(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEQBENCH_KERNELS", "native")


def test_the_comparison_sees_a_wrong_sign() -> None:
    inputs = [normal(3)]
    assert error(lambda x: [-x], lambda x: [x], inputs) == pytest.approx(2.0)
    assert math.isnan(library.relative_error([torch.tensor(torch.nan)], [torch.ones(())]))


@pytest.mark.parametrize("decay", [(9, 99), (1, 99), (9, 1), (1, 1)], ids=str)
@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128], ids=["real", "complex"])
@pytest.mark.parametrize("width", WIDTHS)
def test_linear_scan_equals_the_reference(
    width: int, dtype: torch.dtype, decay: tuple[int, int]
) -> None:
    for length in LENGTHS:
        inputs = linear_inputs(length, width, dtype, decay)
        assert error(lambda *x: [linear.linear_scan(*x)], reference_linear, inputs) < SINGLE


def reference_linear(*inputs: Tensor) -> list[Tensor]:
    return [linear.linear_scan_reference(*inputs)]


@pytest.mark.parametrize("n_state", [1, 5, 16])
@pytest.mark.parametrize("width", WIDTHS)
def test_selective_scan_equals_the_reference(width: int, n_state: int) -> None:
    for length in LENGTHS:
        inputs = selective_inputs(length, width, n_state)
        found = error(selective.selective_scan, selective.selective_scan_reference, inputs)
        assert found < SINGLE, length


@pytest.mark.parametrize("n_values", [1, 5, 8, 17, 40])
@pytest.mark.parametrize("n_keys", [1, 5, 8, 16, 33])
def test_delta_rules_equal_the_references(n_keys: int, n_values: int) -> None:
    for length in LENGTHS:
        general = general_delta_inputs(length, n_keys, n_values)
        found = error(delta.general_delta_rule, delta.general_delta_rule_reference, general)
        assert found < SINGLE, length
        gated = gated_delta_inputs(length, n_keys, n_values)
        found = error(delta.gated_delta_rule, delta.gated_delta_rule_reference, gated)
        assert found < SINGLE, length


@pytest.mark.parametrize("name", ["general_delta_rule", "gated_delta_rule"])
def test_a_delta_rule_over_no_tokens_returns_its_state(name: str) -> None:
    *inputs, state = single(OPERATIONS[name][2]())
    given = [x[:, :0] for x in inputs]
    outputs = library.gradients(OPERATIONS[name][1], [*given, state])
    y, final, *_, grad_state = outputs
    assert y.shape == (3, 0, 2, 5)
    assert torch.equal(final, state)
    assert torch.equal(grad_state, torch.linspace(-0.5, 1, state.numel()).view(state.shape))


def gru(*inputs: Tensor) -> list[Tensor]:
    return [recurrence.gru_recurrence(*inputs)]


def gru_loop(*inputs: Tensor) -> list[Tensor]:
    return [recurrence.gru_loop(*inputs)]


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("width", WIDTHS)
def test_wkv4_equals_the_reference(width: int, length: int) -> None:
    assert error(wkv4, wkv4_reference, wkv_inputs(length, width)) < SINGLE


def test_wkv4_returns_the_state_after_the_lengths() -> None:
    lengths = torch.tensor([1, 32, 35], dtype=torch.int32)
    inputs = wkv_inputs(35, 13)
    found = error(
        lambda *x: wkv4(*x, lengths=lengths), lambda *x: wkv4_reference(*x, lengths=lengths), inputs
    )
    assert found < SINGLE


def test_wkv4_begins_at_nothing_and_does_not_overflow() -> None:
    w, u, k, v, *_ = single(wkv_inputs(35, 13))
    for keys in (k, 300 * k):
        y, final = wkv.wkv4(w, u, keys, v)
        nothing = torch.zeros(3, 13, dtype=torch.float64)
        given = (x.double() for x in (w, u, keys, v))
        exact = wkv4_reference(*given, nothing, nothing, nothing - torch.inf)
        # Exponents of a thousand have an absolute error of 6e-5 in float32, at each of 35 tokens.
        assert library.relative_error([y, *final], exact) < (SINGLE if keys is k else 2e-3)


@pytest.mark.parametrize("taps", [1, 2, 4, 16, 17])
@pytest.mark.parametrize("width", WIDTHS)
def test_causal_convolution_equals_the_reference(width: int, taps: int) -> None:
    for length in LENGTHS:
        x, state = normal(3, length, width, seed=1), normal(3, taps - 1, width, seed=2)
        inputs = [x, normal(width, taps, seed=3), normal(width, seed=4), state]
        if taps == 1:  # of an empty state there is no gradient to compare
            inputs = inputs[:3]
        found = error(
            lambda *x: [convolution.causal_convolution(*x)[0]],
            lambda *x: [convolution.causal_convolution(*x)[0]],
            inputs,
        )
        assert found < SINGLE
    with recorded() as paths:
        convolution.causal_convolution(*(tensor.float() for tensor in inputs[:3]))
    native = taps <= convolution.native.MAX_TAPS
    assert paths == {"causal_convolution": "native-cpu" if native else "reference"}


@pytest.mark.parametrize("n_rows", [1, 2, 3, 4, 5, 9])
@pytest.mark.parametrize("width", [1, 5, 13, 16, 40])
def test_gru_equals_the_loop(width: int, n_rows: int) -> None:
    for length in (1, 7, 63):
        assert error(gru, gru_loop, gru_inputs(length, width, n_rows)) < RECURRENT, length


@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("n_rows", [1, 3, 4, 9])
@pytest.mark.parametrize("width", [1, 5, 13, 16, 40])
def test_rnn_equals_the_loop(width: int, n_rows: int, relu: bool) -> None:
    for length in (1, 7, 63):
        found = error(
            lambda *x: [recurrence.rnn_recurrence(*x, relu=relu)],
            lambda *x: [recurrence.rnn_loop(*x, relu=relu)],
            rnn_inputs(length, width, n_rows),
        )
        assert found < RECURRENT, length


@pytest.mark.parametrize("cell", ["gru", "rnn"])
@pytest.mark.parametrize("with_state", [False, True])
def test_layers_by_native_code_equal_torchs_module(cell: Any, with_state: bool) -> None:
    torch.manual_seed(0)
    layer = RecurrentStack(13, cell, layers=2)
    assert layer.kernel == "native-cpu"
    x = normal(3, 35, 13).float()
    state = (normal(3, 2, 13, seed=1).float(),) if with_state else ()

    def by_torch(x: Tensor, *state: Tensor) -> list[Tensor]:
        y, final = layer.recurrence(x, *(h.transpose(0, 1).contiguous() for h in state))
        return [y, final.transpose(0, 1)]

    found = library.gradients(lambda *given: list(layer(*given)), [x, *state])
    expected = library.gradients(by_torch, [x, *state])
    assert library.relative_error(found, expected) < RECURRENT
    cotangent = normal(3, 35, 13, seed=2).float()
    mine = torch.autograd.grad(layer(x, *state)[0], list(layer.parameters()), cotangent)
    torchs = torch.autograd.grad(by_torch(x, *state)[0], list(layer.parameters()), cotangent)
    assert library.relative_error(mine, torchs) < RECURRENT


def test_dropout_is_between_layers_and_in_training_alone() -> None:
    torch.manual_seed(0)
    layer, x = RecurrentStack(13, "gru", layers=2, dropout=0.9), normal(3, 35, 13).float()
    assert not torch.equal(layer(x)[0], layer(x)[0])
    layer.eval()
    torch.testing.assert_close(layer(x)[0], layer.recurrence(x)[0])


@pytest.mark.parametrize("relu", [False, True])
def test_nan_stays_in_its_row_of_a_recurrence(relu: bool) -> None:
    inputs, weight, bias, state = single(rnn_inputs(9, 13))
    poisoned = inputs.clone()
    poisoned[1, 4, 2] = torch.nan
    clean = recurrence.rnn_recurrence(inputs, weight, bias, state, relu=relu)
    y = recurrence.rnn_recurrence(poisoned, weight, bias, state, relu=relu)
    assert torch.equal(y[::2], clean[::2])
    assert y[1, 4, 2].isnan()
    assert y[1, 5:].isnan().all()


@pytest.mark.parametrize("threads", [2, 3])
@pytest.mark.parametrize("n_rows", [1, 2, 5])
def test_rows_and_channels_are_divided_among_threads(n_rows: int, threads: int) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        inputs = selective_inputs(40, 37, 3, n_rows)
        found = error(selective.selective_scan, selective.selective_scan_reference, inputs)
        assert found < SINGLE
        inputs = linear_inputs(40, 37, torch.float64, (1, 1), n_rows)
        assert error(lambda *x: [linear.linear_scan(*x)], reference_linear, inputs) < SINGLE
        inputs = general_delta_inputs(40, 9, 5, n_rows)
        found = error(delta.general_delta_rule, delta.general_delta_rule_reference, inputs)
        assert found < SINGLE
    finally:
        torch.set_num_threads(before)
