"""What the tests of native kernels have in common: inputs, and the operations by name."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn.functional import normalize

from architectures.kernels import causal_convolution as convolution
from architectures.kernels import delta_rule as delta
from architectures.kernels import linear_scan as linear
from architectures.kernels import recurrence
from architectures.kernels import selective_scan as selective
from architectures.kernels import wkv4 as wkv
from architectures.kernels.native import library

# float32 (rounding 6e-8) after some dozen dependent steps, relative to the largest value; the
# gradient of a single constant decay is a sum of 189 products that cancel.
SINGLE = 5e-6
# Both round to bfloat16, 8 bits, once; the reference rounds after each step.
BFLOAT16 = 2e-2
# The same with tanh and sigmoid, whose absolute error is 1e-7, fed back for 63 tokens.
RECURRENT = 2e-5
LENGTHS = [1, 2, 31, 32, 33, 63]
WIDTHS = [1, 5, 8, 13, 16, 130]  # vectors have 4, 8 or 16 lanes, blocks of the scan 128


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


def gru_inputs(length: int, width: int, n_rows: int = 3) -> list[Tensor]:
    """Inputs, weight, bias and state; weights of torch's size."""
    return [
        normal(n_rows, length, 3 * width, seed=1),
        normal(3 * width, width, seed=2) / width**0.5,
        normal(4 * width, seed=3),
        normal(n_rows, width, seed=4),
    ]


def rnn_inputs(length: int, width: int, n_rows: int = 3) -> list[Tensor]:
    """Inputs, weight, bias and state; weights keep states apart from the corner of relu."""
    return [
        normal(n_rows, length, width, seed=1),
        normal(width, width, seed=2) / width**0.5 / 2,
        normal(width, seed=3),
        normal(n_rows, width, seed=4),
    ]


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


def general_delta_inputs(
    length: int, n_keys: int, n_values: int, n_rows: int = 3, heads: int = 2
) -> list[Tensor]:
    """q, k, v, a, b, log_decay and a state, as RWKV-7 makes them."""
    keys, values = (n_rows, length, heads, n_keys), (n_rows, length, heads, n_values)
    k, erased = (normalize(normal(*keys, seed=seed), dim=3) for seed in (2, 4))
    return [
        normal(*keys, seed=1),
        k,
        normal(*values, seed=3),
        -erased,
        erased * normal(*keys, seed=5).sigmoid(),
        -0.6 * normal(*keys, seed=6).sigmoid(),
        normal(n_rows, heads, n_keys, n_values, seed=7),
    ]


def gated_delta_inputs(
    length: int, n_keys: int, n_values: int, n_rows: int = 3, heads: int = 2
) -> list[Tensor]:
    """q, k, v, beta, log_decay and a state; decays from nearly 1 to e^-30."""
    q, k, v, *_, state = general_delta_inputs(length, n_keys, n_values, n_rows, heads)
    beta = normal(n_rows, length, heads, seed=8).sigmoid()
    return [q, k, v, beta, -(2 * normal(n_rows, length, heads, seed=9)).exp(), state]


def wkv4(*x: Tensor, lengths: Tensor | None = None) -> list[Tensor]:
    w, u, k, v, *state = x
    y, final = wkv.wkv4(w, u, k, v, (state[0], state[1], state[2]), lengths)
    return [y, *final]


def wkv4_reference(*x: Tensor, lengths: Tensor | None = None) -> list[Tensor]:
    w, u, k, v, *state = x
    y, final = wkv.wkv4_reference(w, u, k, v, (state[0], state[1], state[2]), lengths)
    return [y, *final]


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
    "general_delta_rule": (
        delta.native.KERNEL,
        delta.general_delta_rule,
        lambda: general_delta_inputs(35, 13, 5),
    ),
    "gated_delta_rule": (
        delta.native.KERNEL,
        delta.gated_delta_rule,
        lambda: gated_delta_inputs(35, 13, 5),
    ),
}
