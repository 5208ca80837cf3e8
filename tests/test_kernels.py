"""The reference operations against the sums and recurrences that they stand for, in float64."""

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck
from torch.nn import functional

from architectures.kernels.causal_convolution import causal_convolution
from architectures.kernels.fft_convolution import fft_convolution
from architectures.kernels.linear_scan import linear_scan_reference
from architectures.kernels.s4d_kernel import s4d_final_state, s4d_kernel, s4d_output_of_state
from architectures.kernels.selective_scan import (
    CHUNK_TOKENS,
    selective_scan,
    selective_scan_step,
)
from architectures.kernels.ssd import ssd

# Sums of a few hundred float64 terms in another order.
SUM_TOLERANCE = 1e-11
SCAN_LENGTHS = [1, 2, CHUNK_TOKENS - 1, CHUNK_TOKENS, CHUNK_TOKENS + 1, 2 * CHUNK_TOKENS + 3]
S4D_LENGTHS = [1, 2, 3, 4, 37, 101]


def normal(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, dtype=torch.float64, generator=generator)


def close(actual: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(actual, expected, rtol=SUM_TOLERANCE, atol=SUM_TOLERANCE)


def scan_inputs(n_rows: int, length: int, width: int, n_state: int) -> list[Tensor]:
    """u, dt, A, B, C, D and a state, as selective_scan takes them."""
    return [
        normal(n_rows, length, width, seed=1),
        functional.softplus(normal(n_rows, length, width, seed=2)),
        -normal(width, n_state, seed=3).exp(),
        normal(n_rows, length, n_state, seed=4),
        normal(n_rows, length, n_state, seed=5),
        normal(width, seed=6),
        normal(n_rows, width, n_state, seed=7),
    ]


def scan_by_loop(
    u: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, state: Tensor
) -> tuple[Tensor, Tensor]:
    """Equation 2 of the paper, token by token, for autograd to differentiate."""
    outputs = []
    for t in range(u.shape[1]):
        decay = torch.exp(dt[:, t, :, None] * A)
        state = decay * state + dt[:, t, :, None] * B[:, t, None, :] * u[:, t, :, None]
        outputs.append((state * C[:, t, None, :]).sum(-1) + D * u[:, t])
    return torch.stack(outputs, dim=1), state


@pytest.mark.parametrize("length", SCAN_LENGTHS)
def test_selective_scan_equals_the_loop_with_all_gradients(length: int) -> None:
    inputs = [tensor.requires_grad_() for tensor in scan_inputs(3, length, 5, 4)]
    y_cotangent, state_cotangent = normal(3, length, 5, seed=8), normal(3, 5, 4, seed=9)
    results = []
    for scan in (selective_scan, scan_by_loop):
        y, state = scan(*inputs)
        loss = (y * y_cotangent).sum() + (state * state_cotangent).sum()
        results.append([y, state, *torch.autograd.grad(loss, inputs)])
    for actual, expected in zip(*results, strict=True):
        close(actual, expected)


def test_selective_scan_passes_gradcheck() -> None:
    inputs = [tensor.requires_grad_() for tensor in scan_inputs(2, CHUNK_TOKENS + 2, 2, 2)]
    assert gradcheck(selective_scan, inputs, fast_mode=True)
    few = [tensor.requires_grad_() for tensor in scan_inputs(2, 3, 2, 2)]
    assert gradcheck(selective_scan, few)


def test_selective_scan_takes_any_strides() -> None:
    u, dt, A, B, C, D, state = scan_inputs(3, 41, 5, 4)
    expected = selective_scan(u, dt, A, B, C, D, state)
    turned = [tensor.transpose(0, 1).contiguous().transpose(0, 1) for tensor in (u, dt, B, C)]
    actual = selective_scan(turned[0], turned[1], A, turned[2], turned[3], D, state)
    close(actual[0], expected[0])
    close(actual[1], expected[1])


def test_selective_scan_begins_at_zero() -> None:
    *inputs, state = scan_inputs(3, 5, 5, 4)
    close(selective_scan(*inputs)[0], selective_scan(*inputs, torch.zeros_like(state))[0])


def test_selective_scan_rests_where_dt_and_u_are_zero() -> None:
    u, _, A, B, C, D, state = scan_inputs(3, 40, 5, 4)
    zero = torch.zeros_like(u)
    assert torch.equal(selective_scan(zero, zero, A, B, C, D, state)[1], state)


def test_selective_scan_step_is_one_token_of_the_scan() -> None:
    u, dt, A, B, C, D, state = scan_inputs(3, 1, 5, 4)
    y, final = selective_scan(u, dt, A, B, C, D, state)
    y_t, state_t = selective_scan_step(u[:, 0], dt[:, 0], A, B[:, 0], C[:, 0], D, state)
    close(y_t, y[:, 0])
    close(state_t, final)


def test_selective_scan_saves_one_state_a_chunk() -> None:
    n_rows, n_chunks, width, n_state = 2, 4, 3, 16
    inputs = scan_inputs(n_rows, n_chunks * CHUNK_TOKENS, width, n_state)
    inputs = [tensor.requires_grad_() for tensor in inputs]
    saved: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        saved[tensor.data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        selective_scan(*inputs)
    own = {tensor.data_ptr() for tensor in inputs}
    kept = sum(size for pointer, size in saved.items() if pointer not in own)
    state_bytes = n_rows * width * n_state * 8
    assert kept == (n_chunks - 1) * state_bytes  # the first is an input


def spectrum(n_channels: int = 3, n_state: int = 4) -> tuple[Tensor, Tensor, Tensor]:
    """z with a negative real part, and two complex weights: (H, n)."""
    size = (n_channels, n_state)
    z = torch.complex(-0.1 * normal(*size, seed=1).exp(), normal(*size, seed=2))
    b = torch.complex(normal(*size, seed=3), normal(*size, seed=4))
    C = torch.complex(normal(*size, seed=5), normal(*size, seed=6))
    return z, b, C


def s4d_by_loop(z: Tensor, b: Tensor, C: Tensor, u: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
    """h_t = exp(z) h_{t-1} + b u_t and y_t = 2 Re(C h_t): states (B, H, T, n), y (B, H, T)."""
    states = []
    for u_t in u.unbind(2):
        state = torch.exp(z) * state + b * u_t.unsqueeze(2)
        states.append(state)
    h = torch.stack(states, dim=2)
    return h, 2 * (h * C.unsqueeze(1)).sum(3).real


@pytest.mark.parametrize("length", S4D_LENGTHS)
def test_s4d_kernel_is_the_response_to_an_impulse(length: int) -> None:
    z, b, C = spectrum()
    impulse = torch.zeros(1, 3, length, dtype=torch.float64)
    impulse[..., 0] = 1.0
    _, y = s4d_by_loop(z, b, C, impulse, torch.zeros(1, 3, 4, dtype=torch.complex128))
    close(s4d_kernel(z, C * b, length), y[0])


@pytest.mark.parametrize("length", S4D_LENGTHS)
def test_s4d_carries_a_state_in_and_out(length: int) -> None:
    z, b, C = spectrum()
    u = normal(2, 3, length, seed=7)
    state = torch.complex(normal(2, 3, 4, seed=8), normal(2, 3, 4, seed=9))
    h, y = s4d_by_loop(z, b, C, u, state)
    convolved = fft_convolution(u, s4d_kernel(z, C * b, length))
    close(convolved + s4d_output_of_state(z, C, state, length), y)
    close(s4d_final_state(z, b, u, state), h[:, :, -1])


def test_s4d_final_state_is_that_after_the_lengths() -> None:
    z, b, C = spectrum()
    lengths = torch.tensor([1, 20, 37])
    u = normal(3, 3, 37, seed=7)
    state = torch.complex(normal(3, 3, 4, seed=8), normal(3, 3, 4, seed=9))
    h, _ = s4d_by_loop(z, b, C, u, state)
    padded = u * (torch.arange(37) < lengths[:, None, None])
    expected = torch.stack([h[row, :, n - 1] for row, n in enumerate(lengths.tolist())])
    close(
        torch.view_as_real(s4d_final_state(z, b, padded, state, lengths)),
        torch.view_as_real(expected),
    )


def test_s4d_passes_gradcheck() -> None:
    z, b, C = (tensor.requires_grad_() for tensor in spectrum(2, 2))
    u = normal(2, 2, 5, seed=7).requires_grad_()
    state = torch.complex(normal(2, 2, 2, seed=8), normal(2, 2, 2, seed=9)).requires_grad_()
    lengths = torch.tensor([2, 5])
    assert gradcheck(lambda z, w: s4d_kernel(z, w, 5), (z, b))
    assert gradcheck(lambda z, C, state: s4d_output_of_state(z, C, state, 5), (z, C, state))
    assert gradcheck(s4d_final_state, (z, b, u, state))
    assert gradcheck(
        lambda z, b, state: s4d_final_state(z, b, u.detach(), state, lengths), (z, b, state)
    )


def test_s4d_kernel_of_a_long_sequence_keeps_little() -> None:
    length, n_channels, n_state = 100_000, 2, 32
    z, b, _ = (tensor.requires_grad_() for tensor in spectrum(n_channels, n_state))
    saved: list[int] = []

    def pack(tensor: Tensor) -> Tensor:
        saved.append(tensor.numel())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        s4d_kernel(z, b, length)
    # A Vandermonde matrix as such has n_state numbers for each of the kernel's.
    assert max(saved) <= n_channels * length


@pytest.mark.parametrize("length", [1, 2, 37, 101])
def test_fft_convolution_is_the_causal_sum(length: int) -> None:
    u, kernel = normal(2, 3, length, seed=1), normal(3, length, seed=2)
    padded = functional.pad(u, (length - 1, 0))
    expected = functional.conv1d(padded, kernel.flip(1).unsqueeze(1), groups=3)
    close(fft_convolution(u, kernel), expected)


def test_fft_convolution_passes_gradcheck() -> None:
    u, kernel = normal(2, 3, 5, seed=1), normal(3, 5, seed=2)
    assert gradcheck(fft_convolution, (u.requires_grad_(), kernel.requires_grad_()))


@pytest.mark.parametrize("taps", [1, 2, 4])
@pytest.mark.parametrize("length", [1, 3, 37])
def test_causal_convolution_is_torchs_depthwise_convolution(length: int, taps: int) -> None:
    x, weight, bias = normal(2, length, 3, seed=1), normal(3, taps, seed=2), normal(3, seed=3)
    padded = functional.pad(x.transpose(1, 2), (taps - 1, 0))
    expected = functional.conv1d(padded, weight.unsqueeze(1), bias, groups=3).transpose(1, 2)
    y, state = causal_convolution(x, weight, bias)
    close(y, expected)
    assert torch.equal(state, padded[:, :, length:].transpose(1, 2))


def test_causal_convolution_carries_the_last_inputs_before_the_lengths() -> None:
    x, state = normal(3, 9, 2, seed=1), normal(3, 3, 2, seed=4)
    lengths = torch.tensor([1, 5, 9])
    _, after = causal_convolution(x, normal(2, 4), normal(2, seed=3), state, lengths)
    for row, n_real in enumerate(lengths.tolist()):
        seen = torch.cat([state[row], x[row, :n_real]])
        assert torch.equal(after[row], seen[-3:])


def test_causal_convolution_passes_gradcheck() -> None:
    inputs = (
        normal(2, 5, 2, seed=1),
        normal(2, 3, seed=2),
        normal(2, seed=3),
        normal(2, 2, 2, seed=4),
    )
    assert gradcheck(causal_convolution, [tensor.requires_grad_() for tensor in inputs])


@pytest.mark.parametrize(("n_rows", "length"), [(0, 3), (2, 0), (0, 0)])
def test_nothing_to_scan_gives_nothing(n_rows: int, length: int) -> None:
    x = normal(n_rows, length, 2, 3).requires_grad_()
    state = normal(n_rows, 2, 3, 3)
    y, after = ssd(x, x, x, state=state)
    assert y.shape == x.shape
    assert torch.equal(after, state)
    flat = x.flatten(2)
    states = linear_scan_reference(flat, flat, normal(n_rows, 6).requires_grad_())
    assert states.shape == flat.shape
    (gradient,) = torch.autograd.grad(states.sum() + y.sum(), x)
    assert gradient.shape == x.shape
