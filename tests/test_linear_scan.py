"""The linear scan against a loop over the tokens, in float64 with all gradients."""

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck

from architectures.kernels.linear_scan import CHUNK_TOKENS, last_state, linear_scan
from tests.agreement import EXACT, SINGLE, close, normal

SCAN_LENGTHS = [1, 2, CHUNK_TOKENS - 1, CHUNK_TOKENS, CHUNK_TOKENS + 1, 3 * CHUNK_TOKENS + 5]
DTYPES = [torch.float64, torch.complex128]


def scan_by_loop(a: Tensor, b: Tensor, state: Tensor) -> Tensor:
    states = []
    for a_t, b_t in zip(a.expand_as(b).unbind(1), b.unbind(1), strict=True):
        state = a_t * state + b_t
        states.append(state)
    return torch.stack(states, dim=1)


def scan_inputs(length: int, dtype: torch.dtype, decay_shape: tuple[int, int]) -> list[Tensor]:
    """a (moduli around 1, some above), b and state, as linear_scan takes them."""
    rows, times = decay_shape
    a = normal(rows, times, 5, seed=1, dtype=dtype)
    a = a / a.abs() * (1 + 0.1 * normal(rows, times, 5, seed=2))
    b, state = normal(3, length, 5, seed=3, dtype=dtype), normal(3, 5, seed=4, dtype=dtype)
    return [tensor.requires_grad_() for tensor in (a, b, state)]


@pytest.mark.parametrize("decay", ["each token", "one for all rows", "constant", "one a row"])
@pytest.mark.parametrize("dtype", DTYPES, ids=["real", "complex"])
@pytest.mark.parametrize("length", SCAN_LENGTHS)
def test_the_scan_equals_the_loop_with_all_gradients(
    length: int, dtype: torch.dtype, decay: str
) -> None:
    shapes = {
        "each token": (3, length),
        "one for all rows": (1, length),
        "constant": (1, 1),
        "one a row": (3, 1),
    }
    inputs = scan_inputs(length, dtype, shapes[decay])
    cotangent = normal(3, length, 5, seed=5, dtype=dtype)
    last_cotangent = normal(3, 5, seed=6, dtype=dtype)
    results = []
    for scan in (linear_scan, scan_by_loop):
        states = scan(*inputs)
        loss = (states * cotangent).sum() + (last_state(states) * last_cotangent).sum()
        gradients = torch.autograd.grad(loss.real if loss.is_complex() else loss, inputs)
        results.append([states, *gradients])
    for actual, expected in zip(*results, strict=True):
        close(actual, expected)


@pytest.mark.parametrize("dtype", DTYPES, ids=["real", "complex"])
@pytest.mark.parametrize("constant", [False, True])
def test_the_scan_passes_gradcheck_through_both_states(constant: bool, dtype: torch.dtype) -> None:
    def scan(a: Tensor, b: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        states = linear_scan(a, b, state)
        return states, last_state(states)

    long = CHUNK_TOKENS + 2
    for length, fast in [(3, False), (long, True)]:
        a, b, state = scan_inputs(length, dtype, (1, 1) if constant else (3, length))
        assert gradcheck(scan, (a, b, state), fast_mode=fast)


@pytest.mark.parametrize("dtype", [torch.float32, torch.complex64, *DTYPES])
def test_the_scan_keeps_the_dtype_and_leaves_its_inputs(dtype: torch.dtype) -> None:
    source = torch.complex128 if dtype.is_complex else torch.float64
    inputs = [tensor.detach().to(dtype) for tensor in scan_inputs(41, source, (3, 41))]
    kept = [tensor.clone() for tensor in inputs]
    a, b, state = inputs
    states = linear_scan(a, b, state)
    assert states.dtype == dtype
    close(states, scan_by_loop(a, b, state), EXACT if dtype in DTYPES else SINGLE)
    for tensor, before in zip(inputs, kept, strict=True):
        assert torch.equal(tensor, before)
    assert torch.equal(linear_scan(a, b), linear_scan(a, b, torch.zeros_like(state)))


@pytest.mark.parametrize("length", [CHUNK_TOKENS, 41])
def test_the_scan_takes_any_strides(length: int) -> None:
    a, b, state = scan_inputs(length, torch.float64, (3, length))
    turned = [tensor.transpose(0, 1).contiguous().transpose(0, 1) for tensor in (a, b)]
    close(linear_scan(*turned, state), linear_scan(a, b, state))


def test_a_decay_of_zero_forgets_and_a_decay_of_one_adds_up() -> None:
    b, state = normal(2, 70, 3), normal(2, 3, seed=1)
    close(linear_scan(torch.zeros_like(b), b, state), b)
    close(linear_scan(torch.ones_like(b), b, state), state.unsqueeze(1) + b.cumsum(1))


def test_the_last_state_is_that_after_the_lengths() -> None:
    states = normal(3, 9, 2)
    expected = torch.stack([states[0, 8], states[1, 3], states[2, 0]])
    close(last_state(states, torch.tensor([9, 4, 1])), expected)
    assert last_state(states).untyped_storage().nbytes() == 3 * 2 * 8
