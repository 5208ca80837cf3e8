"""Native operations on any input and under any of torch's machinery."""

import os
import subprocess
import sys
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from architectures.kernels import delta_rule as delta
from architectures.kernels import linear_scan as linear
from architectures.kernels import selective_scan as selective
from architectures.kernels import wkv4 as wkv
from architectures.kernels.native import library
from architectures.kernels.paths import recorded
from tests.native_operations import (
    BFLOAT16,
    OPERATIONS,
    SINGLE,
    linear_inputs,
    selective_inputs,
    single,
)

each_operation = pytest.mark.parametrize("name", OPERATIONS)


@pytest.fixture(autouse=True)
def _native(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEQBENCH_KERNELS", "native")


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
    poisoned[index][1, 20, ..., 4] = torch.nan
    y = outputs_of(name, poisoned)[0]
    assert torch.equal(y[::2], clean[::2])
    assert torch.equal(y[1, :20], clean[1, :20])
    assert y[1, 20].isnan().any()
    assert name != "selective_scan" or y[1, 34, 4].isnan()


DELTA_RULES = ["general_delta_rule", "gated_delta_rule"]


@pytest.mark.parametrize("name", ["linear_scan", "selective_scan", "wkv4", *DELTA_RULES])
def test_bfloat16_is_computed_in_float32(name: str) -> None:
    inputs = [x.bfloat16() for x in OPERATIONS[name][2]()]
    with recorded() as paths:
        found = library.gradients(lambda *x: outputs_of(name, x), inputs)
    assert {x.dtype for x in found} == {torch.bfloat16}
    assert set(paths.values()) == {"native-cpu"}
    expected = library.gradients(lambda *x: outputs_of(name, x), [x.double() for x in inputs])
    assert library.relative_error(found, expected) < BFLOAT16


@pytest.mark.parametrize("name", ["linear_scan", "linear_scan_complex", "selective_scan", "wkv4"])
def test_mixed_dtypes_and_float64_go_to_the_reference(name: str) -> None:
    inputs = OPERATIONS[name][2]()
    with recorded() as paths:
        expected = outputs_of(name, inputs)
        mixed = outputs_of(name, [single([inputs[0]])[0], *inputs[1:]])
    assert paths[name.removesuffix("_complex")] == "reference"
    assert "native-cpu" not in paths.values()
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
        "general_delta_rule": [True],
        "gated_delta_rule": [True],
    }
    arguments: list[Tensor | bool | None] = [*inputs, *options.get(name, [])]
    if name == "gated_delta_rule":
        arguments.insert(3, None)  # a
    operation = "delta_rule" if name in DELTA_RULES else name.removesuffix("_complex")
    torch.library.opcheck(getattr(torch.ops.seqbench, operation).default, tuple(arguments))


@each_operation
def test_the_flop_counter_sees_forward_and_backward(name: str) -> None:
    inputs = [x.requires_grad_() for x in single(OPERATIONS[name][2]())]
    library.register_flops()
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
        **dict.fromkeys(DELTA_RULES, delta.native.flops_per_token(13, 5, heads=2)),
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


def test_code_is_never_given_memory_of_another_kind() -> None:
    """Lower precision than the code writes would let it write beyond the end."""
    from architectures.kernels.native import recurrence

    x = torch.zeros(2, 5, 13)
    weight, bias, state = torch.zeros(13, 13), torch.zeros(13), torch.zeros(2, 13)
    for wrong in (x.bfloat16(), x.double()):
        with pytest.raises(TypeError, match=r"takes contiguous CPU tensors of torch\.float32"):
            recurrence.RNN(wrong, weight, bias, state, False)


@pytest.mark.parametrize("name", ["gru", "rnn", "gru_stack", "rnn_stack"])
@pytest.mark.parametrize("mixed", [True, False])
def test_recurrences_take_bfloat16_natively(name: str, mixed: bool) -> None:
    from architectures import ARCHITECTURES

    torch.manual_seed(0)
    body = ARCHITECTURES[name](13)
    x = torch.randn(3, 9, 13)
    expected, _ = body(x)
    if not mixed:
        body, x = body.bfloat16(), x.bfloat16()
    with torch.autocast("cpu", torch.bfloat16, enabled=mixed):
        y, state = body(x)
        body(x, state)
        assert body.kernel == "native-cpu"
        y.float().square().mean().backward()
    assert (y - expected).abs().max() <= 0.05 * expected.abs().max()  # bfloat16 has 8 bits
    assert all(p.grad is not None and p.grad.isfinite().all() for p in body.parameters())
