"""Native operations against the references in float64: outputs, every gradient, and bad input."""

import math
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from architectures.kernels import causal_convolution as convolution
from architectures.kernels import linear_scan as linear
from architectures.kernels import recurrence
from architectures.kernels import selective_scan as selective
from architectures.kernels import wkv4 as wkv
from architectures.kernels.native import library
from architectures.layers.recurrent import RecurrentStack

# float32 (rounding 6e-8) after some dozen dependent steps, relative to the largest value; the
# gradient of a single constant decay is a sum of 189 products that cancel.
SINGLE = 5e-6
# Both round to bfloat16, 8 bits, once; the reference rounds after each step.
BFLOAT16 = 2e-2
# The same with tanh and sigmoid, whose absolute error is 1e-7, fed back for 63 tokens.
RECURRENT = 2e-5
LENGTHS = [1, 2, 31, 32, 33, 63]
WIDTHS = [1, 5, 8, 13, 16, 130]  # vectors have 4, 8 or 16 lanes, blocks of the scan 128


@pytest.fixture(autouse=True)
def _native(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEQBENCH_KERNELS", "native")


def normal(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


def linear_inputs(
    length: int, width: int, dtype: torch.dtype, decay: tuple[int, int], n_rows: int = 3
) -> list[Tensor]:
    """a of moduli about 1, b, and a state."""
    rows, times = min(decay[0], n_rows), min(decay[1], length)
    a = normal(rows, times, width, seed=1, dtype=dtype)
    a = a / a.abs() * (1 - 0.1 * normal(rows, times, width, seed=2).abs())
    b = normal(n_rows, length, width, seed=3, dtype=dtype)
    return [a, b, normal(n_rows, width, seed=4, dtype=dtype)]


def selective_inputs(length: int, width: int, n_state: int, n_rows: int = 3) -> list[Tensor]:
    """u, dt, A, B, C, D and a state."""
    return [
        normal(n_rows, length, width, seed=1),
        normal(n_rows, length, width, seed=2).sigmoid(),
        -normal(width, n_state, seed=3).exp(),
        normal(n_rows, length, n_state, seed=4),
        normal(n_rows, length, n_state, seed=5),
        normal(width, seed=6),
        normal(n_rows, width, n_state, seed=7),
    ]


def single(inputs: Sequence[Tensor]) -> list[Tensor]:
    return [x.to(torch.complex64 if x.is_complex() else torch.float32) for x in inputs]


def error(
    native: Callable[..., Sequence[Tensor]],
    reference: Callable[..., Sequence[Tensor]],
    inputs: Sequence[Tensor],
) -> float:
    """The largest error in float32 of outputs and gradients against float64, for equal inputs."""
    found = library.gradients(native, single(inputs))
    inputs = [exact.copy_(given) for exact, given in zip(inputs, single(inputs), strict=True)]
    return library.relative_error(found, library.gradients(reference, inputs))


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


def gru_inputs(length: int, width: int, n_rows: int = 3) -> list[Tensor]:
    """Inputs, weight, bias and state; weights of torch's size."""
    return [
        normal(n_rows, length, 3 * width, seed=1),
        normal(3 * width, width, seed=2) / width**0.5,
        normal(width, seed=3),
        normal(n_rows, width, seed=4),
    ]


def rnn_inputs(length: int, width: int, n_rows: int = 3) -> list[Tensor]:
    """Inputs, weight and state, with weights that keep states apart from the corner of relu."""
    return [
        normal(n_rows, length, width, seed=1),
        normal(width, width, seed=2) / width**0.5 / 2,
        normal(n_rows, width, seed=4),
    ]


def gru(*inputs: Tensor) -> list[Tensor]:
    return [recurrence.gru_recurrence(*inputs)]


def gru_loop(*inputs: Tensor) -> list[Tensor]:
    return [recurrence.gru_loop(*inputs)]


def wkv_inputs(length: int, width: int, n_rows: int = 3) -> list[Tensor]:
    """w, u, k, v and the state's a, b and p; keys far enough apart that either side may win."""
    return [
        normal(width, seed=1).exp(),
        normal(width, seed=2),
        3 * normal(n_rows, length, width, seed=3),
        normal(n_rows, length, width, seed=4),
        normal(n_rows, width, seed=5),
        normal(n_rows, width, seed=6).exp(),
        normal(n_rows, width, seed=7),
    ]


def wkv4(*x: Tensor, lengths: Tensor | None = None) -> list[Tensor]:
    w, u, k, v, *state = x
    y, final = wkv.wkv4(w, u, k, v, (state[0], state[1], state[2]), lengths)
    return [y, *final]


def wkv4_reference(*x: Tensor, lengths: Tensor | None = None) -> list[Tensor]:
    w, u, k, v, *state = x
    y, final = wkv.wkv4_reference(w, u, k, v, (state[0], state[1], state[2]), lengths)
    return [y, *final]


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
    convolution.native.KERNEL.ran.clear()
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
    assert bool(convolution.native.KERNEL.ran) == (taps <= convolution.native.MAX_TAPS)


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
    inputs, weight, state = single(rnn_inputs(9, 13))
    poisoned = inputs.clone()
    poisoned[1, 4, 2] = torch.nan
    clean = recurrence.rnn_recurrence(inputs, weight, state, relu=relu)
    y = recurrence.rnn_recurrence(poisoned, weight, state, relu=relu)
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
    finally:
        torch.set_num_threads(before)


OPERATIONS = {
    "linear_scan": (
        linear.native.KERNEL,
        linear.linear_scan,
        lambda: linear_inputs(35, 13, torch.float64, (9, 99)),
    ),
    "linear_scan_complex": (
        linear.native.KERNEL,
        linear.linear_scan,
        lambda: linear_inputs(35, 13, torch.complex128, (9, 99)),
    ),
    "gru": (
        recurrence.native.KERNEL,
        recurrence.gru_recurrence,
        lambda: gru_inputs(35, 13),
    ),
    "rnn": (
        recurrence.native.KERNEL,
        lambda *x: recurrence.rnn_recurrence(*x, relu=False),
        lambda: rnn_inputs(35, 13),
    ),
    "causal_convolution": (
        convolution.native.KERNEL,
        lambda *x: convolution.causal_convolution(*x)[0],
        lambda: [normal(3, 35, 13), normal(13, 4, seed=1), normal(13, seed=2), normal(3, 3, 13)],
    ),
    "wkv4": (wkv.native.KERNEL, lambda *x: wkv4(*x)[:4], lambda: wkv_inputs(35, 13)),
    "selective_scan": (
        selective.native.KERNEL,
        selective.selective_scan,
        lambda: selective_inputs(35, 13, 5),
    ),
}
each_operation = pytest.mark.parametrize("name", OPERATIONS)


def outputs_of(name: str, inputs: Sequence[Tensor]) -> list[Tensor]:
    y = OPERATIONS[name][1](*inputs)
    return [y] if isinstance(y, Tensor) else list(y)


@each_operation
def test_any_strides_and_expanded_tensors_are_taken(name: str) -> None:
    inputs = single(OPERATIONS[name][2]())
    expected = library.gradients(lambda *x: outputs_of(name, x), inputs)
    strange = [
        torch.stack([x, x], -1)[..., 0] if index % 2 else x.mT.contiguous().mT if x.dim() > 1 else x
        for index, x in enumerate(inputs)
    ]
    assert not all(x.is_contiguous() for x in strange)
    found = library.gradients(lambda *x: outputs_of(name, x), strange)
    assert all(map(torch.equal, found, expected))
    one_row = [x[:1].expand_as(x) if x.shape[:1] == (3,) else x for x in inputs]
    same = [x.contiguous() for x in one_row]
    assert all(map(torch.equal, outputs_of(name, one_row), outputs_of(name, same)))


@each_operation
def test_an_expanded_gradient_is_taken(name: str) -> None:
    inputs = [x.requires_grad_() for x in single(OPERATIONS[name][2]())]
    (y, *_) = outputs_of(name, inputs)
    real = y.real if y.is_complex() else y
    expanded = torch.autograd.grad(real.sum(), inputs, retain_graph=True)
    whole = torch.autograd.grad(y, inputs, torch.ones_like(y))
    torch.testing.assert_close(expanded, whole)


@each_operation
def test_an_empty_batch_gives_empty_outputs(name: str) -> None:
    batched = [x.shape[0] == 3 for x in OPERATIONS[name][2]()]
    inputs = single(OPERATIONS[name][2]())
    inputs = [x[:0] if rows else x for x, rows in zip(inputs, batched, strict=True)]
    found = library.gradients(lambda *x: outputs_of(name, x), inputs)
    assert found[0].shape[0] == 0
    assert all(not x.numel() or not x.any() for x in found)


@each_operation
def test_nan_shows_and_stays_in_its_row(name: str) -> None:
    inputs = single(OPERATIONS[name][2]())
    clean = outputs_of(name, inputs)[0]
    poisoned = [x.clone() for x in inputs]
    index = {"linear_scan": 1, "linear_scan_complex": 1, "wkv4": 2}.get(name, 0)
    poisoned[index][1, 20, 4] = torch.nan
    y = outputs_of(name, poisoned)[0]
    assert torch.equal(y[::2], clean[::2])
    assert torch.equal(y[1, :20], clean[1, :20])
    assert y[1, 20].isnan().any()
    assert name != "selective_scan" or y[1, 34, 4].isnan()


@pytest.mark.parametrize("name", ["linear_scan", "selective_scan", "wkv4"])
def test_bfloat16_is_computed_in_float32(name: str) -> None:
    kernel = OPERATIONS[name][0]
    kernel.ran.discard(torch.float32)
    inputs = [x.bfloat16() for x in OPERATIONS[name][2]()]
    found = library.gradients(lambda *x: outputs_of(name, x), inputs)
    assert {x.dtype for x in found} == {torch.bfloat16}
    assert torch.float32 in kernel.ran
    expected = library.gradients(lambda *x: outputs_of(name, x), [x.double() for x in inputs])
    assert library.relative_error(found, expected) < BFLOAT16


@pytest.mark.parametrize("name", ["linear_scan", "linear_scan_complex", "selective_scan", "wkv4"])
def test_mixed_dtypes_and_float64_go_to_the_reference(name: str) -> None:
    kernel = OPERATIONS[name][0]
    inputs = OPERATIONS[name][2]()
    kernel.ran.clear()
    expected = outputs_of(name, inputs)
    mixed = outputs_of(name, [single([inputs[0]])[0], *inputs[1:]])
    assert not kernel.ran
    assert library.relative_error(mixed, expected) < SINGLE


@each_operation
def test_a_second_derivative_is_a_clear_error(name: str) -> None:
    inputs = [x.requires_grad_() for x in single(OPERATIONS[name][2]())]
    y = outputs_of(name, inputs)[0]
    (first,) = torch.autograd.grad((y.abs() ** 2).sum(), inputs[:1], create_graph=True)
    with pytest.raises(RuntimeError, match="no second derivative"):
        torch.autograd.grad((first.abs() ** 2).sum(), inputs)


@each_operation
def test_torch_approves_of_the_registration(name: str) -> None:
    inputs = [x.requires_grad_() for x in single(OPERATIONS[name][2]())]
    options: dict[str, list[bool | None]] = {
        "selective_scan": [True],
        "gru": [True],
        "rnn": [False],
        "wkv4": [None, True],
    }
    extra = options.get(name, [])
    packet = getattr(torch.ops.seqbench, name.removesuffix("_complex"))
    torch.library.opcheck(packet.default, (*inputs, *extra))


@each_operation
def test_the_flop_counter_sees_forward_and_backward(name: str) -> None:
    inputs = [x.requires_grad_() for x in single(OPERATIONS[name][2]())]
    with FlopCounterMode(display=False) as counter:
        y = outputs_of(name, inputs)[0]
        forward = counter.get_total_flops()
        torch.autograd.grad(y, inputs, torch.ones_like(y), allow_unused=True)
    per_token = {
        "linear_scan": linear.linear_scan_flops_per_token(13),
        "linear_scan_complex": linear.linear_scan_flops_per_token(13, is_complex=True),
        "selective_scan": selective.selective_scan_flops_per_token(13, 5),
        "causal_convolution": 2 * 4 * 13,
        "wkv4": wkv.wkv4_flops_per_token(13),
        "gru": 2 * 3 * 13 * 13,
        "rnn": 2 * 13 * 13,
    }
    assert forward == 3 * 35 * per_token[name]
    assert counter.get_total_flops() > 2 * forward


def test_inference_keeps_no_states_of_chunks() -> None:
    inputs = single(selective_inputs(64, 5, 3))
    with torch.no_grad():
        starts = selective.native.SCAN(*inputs, False)[2]
    assert starts.numel() == 0


def test_dt_and_u_of_zero_leave_the_state_exactly() -> None:
    u, _, A, B, C, D, state = single(selective_inputs(40, 13, 5))
    zero = torch.zeros_like(u)
    assert torch.equal(selective.selective_scan(zero, zero, A, B, C, D, state)[1], state)


def test_extreme_decays_are_right() -> None:
    """dt A from -infinity to so much that the state overflows."""
    inputs = single(selective_inputs(3, 4, 1))
    inputs[2] = torch.tensor([[-torch.inf], [-1e4], [1e-30], [1e4]])
    y, state = selective.selective_scan(*inputs)
    exact_y, exact_state = selective.selective_scan_reference(*inputs)
    torch.testing.assert_close(y[:, :, :3], exact_y[:, :, :3], rtol=SINGLE, atol=SINGLE)
    torch.testing.assert_close(state[:, :3], exact_state[:, :3], rtol=SINGLE, atol=SINGLE)
    assert not y[:, :, 3].isfinite().any()


def test_a_conjugated_view_is_taken_as_what_it_stands_for() -> None:
    a, b, state = single(linear_inputs(35, 13, torch.complex128, (9, 99)))
    found = linear.linear_scan(a.conj(), b.conj(), state.conj())
    torch.testing.assert_close(found, linear.linear_scan(a, b, state).conj().resolve_conj())


@pytest.mark.slow
@each_operation
def test_compiling_changes_nothing(name: str) -> None:
    inputs = single(OPERATIONS[name][2]())
    compiled = torch.compile(OPERATIONS[name][1], fullgraph=True, backend="aot_eager")

    def run(*x: Tensor) -> list[Tensor]:
        y = compiled(*x)
        return [y] if isinstance(y, Tensor) else list(y)

    found = library.gradients(run, inputs)
    expected = library.gradients(lambda *x: outputs_of(name, x), inputs)
    torch.testing.assert_close(found, expected)


FORKED = """
import os, torch
torch.set_num_threads(2)
from architectures.kernels.linear_scan import linear_scan
a, b = torch.rand(8, 4000, 64), torch.rand(8, 4000, 64)
expected = linear_scan(a, b)
child = os.fork()
if child == 0:
    states = linear_scan(a, b)
    torch.set_num_threads(1)  # torch's own operations would hang
    os._exit(0 if torch.equal(states, expected) else 3)
status = os.waitpid(child, 0)[1]
assert os.waitstatus_to_exitcode(status) == 0, status
assert torch.equal(linear_scan(a, b), expected)
"""


def test_a_fork_after_use_does_not_hang() -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": "2"}
    subprocess.run([sys.executable, "-c", FORKED], check=True, timeout=60, env=environment)
