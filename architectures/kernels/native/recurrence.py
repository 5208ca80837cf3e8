"""GRU and simple RNN over a whole sequence in C (recurrence.c), as operations of torch.

B batch, T time, H width, G gates. Products over all tokens (of inputs, of weights' gradients) are
torch's. Names as in kernels/recurrence.py.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from architectures.kernels.native.library import (
    Kernel,
    define,
    differentiate_by,
    n_threads,
    plain,
)

ROWS_OF_TASK = 4  # ROWS in recurrence.c
# float32 against float64 over a few tokens; tanh and sigmoid have an absolute error of 1e-7.
KERNEL = Kernel("recurrence", (torch.float32,), bound=1e-5)


def _packed(weight: Tensor, n_gates: int) -> Tensor:
    """Weights (G H, K) as the C code reads them: (blocks of outputs, K, G, outputs of a block)."""
    lanes, n_inputs = KERNEL.call("lanes"), weight.shape[1]
    gates = weight.detach().view(n_gates, -1, n_inputs)
    gates = pad(gates, (0, 0, 0, -gates.shape[1] % lanes))
    return gates.view(n_gates, -1, lanes, n_inputs).permute(1, 3, 0, 2).contiguous()


def _scratch(like: Tensor, n_biases: int) -> Tensor:
    lanes = KERNEL.call("lanes")
    padded = -(-like.shape[2] // lanes) * lanes
    return like.new_empty(n_threads() * (ROWS_OF_TASK + n_biases) * padded)


def _sums_of_rows(like: Tensor, n_biases: int) -> Tensor:
    """For the gradient of biases, by row: zeros, since the first row of a task has it of all."""
    return like.new_zeros(like.shape[0], n_biases * like.shape[2])


def _gru(
    inputs: Tensor, weight: Tensor, bias: Tensor, state: Tensor, keep_gates: bool
) -> tuple[Tensor, Tensor]:
    """Return h (B, T, H) and r, z, n and U_n h + b (B, T, 4, H)."""
    inputs, weight, bias, state = map(plain, (inputs, weight, bias, state))
    n_rows, length, _ = inputs.shape
    width = weight.shape[1]
    y = inputs.new_empty(n_rows, length, width)
    gates = inputs.new_empty((n_rows, length, 4, width) if keep_gates else (0,))
    KERNEL.call(
        "gru",
        *(inputs, _packed(weight, 3), bias, state, y, gates if keep_gates else None),
        *(*y.shape, n_threads()),
    )
    return y, gates


def _gru_backward(
    weight: Tensor, state: Tensor, y: Tensor, gates: Tensor, grad_y: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the gradients of the inputs, of U_n h + b, of the biases and of the state."""
    state, y, gates, grad_y = map(plain, (state, y, gates, grad_y))
    grad_inputs = y.new_empty(*y.shape[:2], 3 * y.shape[2])
    grad_hidden, grad_state = torch.empty_like(y), torch.empty_like(state)
    grad_bias = _sums_of_rows(y, 4)
    KERNEL.call(
        "gru_backward",
        *(_packed(plain(weight).t().contiguous(), 1), state, y, gates, grad_y),
        *(grad_inputs, grad_hidden, grad_bias, grad_state, _scratch(y, 4)),
        *(*y.shape, n_threads()),
    )
    return grad_inputs, grad_hidden, grad_bias.sum(0), grad_state


def _remember_gru(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    _, weight, _, state, _ = inputs
    ctx.save_for_backward(weight, state, *output)
    ctx.mark_non_differentiable(output[1])
    ctx.set_materialize_grads(False)  # else zeros as large as the gates, at every step back


def _differentiate_gru(
    ctx: Any, grad_y: Tensor, grad_gates: None
) -> tuple[Tensor, Tensor, Tensor, Tensor, None]:
    weight, state, y, gates = ctx.saved_tensors
    width = weight.shape[1]
    grad_inputs, grad_hidden, grad_bias, grad_state = GRU_BACK(weight, state, y, gates, grad_y)
    before = _before(y, state)  # (B T, H)
    of_hidden = grad_hidden.flatten(0, 1)  # (B T, H)
    of_gates = grad_inputs.flatten(0, 1)[:, : 2 * width]  # (B T, 2H)
    grad_weight = torch.cat([of_gates.t() @ before, of_hidden.t() @ before])
    return grad_inputs, grad_weight, grad_bias, grad_state, None


def _rnn(inputs: Tensor, weight: Tensor, bias: Tensor, state: Tensor, relu: bool) -> Tensor:
    """Return h (B, T, H)."""
    inputs, weight, bias, state = map(plain, (inputs, weight, bias, state))
    y = torch.empty_like(inputs)
    tensors = inputs, _packed(weight, 1), bias, state, y
    KERNEL.call("rnn", *tensors, *y.shape, int(relu), n_threads())
    return y


def _rnn_backward(
    weight: Tensor, y: Tensor, grad_y: Tensor, relu: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients of the inputs, of the bias and of the state."""
    y, grad_y = plain(y), plain(grad_y)
    grad_inputs, grad_state = torch.empty_like(y), y.new_empty(y.shape[0], y.shape[2])
    grad_bias = _sums_of_rows(y, 1)
    KERNEL.call(
        "rnn_backward",
        *(_packed(plain(weight).t().contiguous(), 1), y, grad_y, grad_inputs, grad_bias),
        *(grad_state, _scratch(y, 1), *y.shape, int(relu), n_threads()),
    )
    return grad_inputs, grad_bias.sum(0), grad_state


def _remember_rnn(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    _, weight, _, state, ctx.relu = inputs
    ctx.save_for_backward(weight, state, output)


def _differentiate_rnn(ctx: Any, grad_y: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, None]:
    weight, state, y = ctx.saved_tensors
    grad_inputs, grad_bias, grad_state = RNN_BACK(weight, y, grad_y, ctx.relu)
    grad_weight = grad_inputs.flatten(0, 1).t() @ _before(y, state)
    return grad_inputs, grad_weight, grad_bias, grad_state, None


def _before(y: Tensor, state: Tensor) -> Tensor:
    """The h that each token found: (B T, H)."""
    before = torch.cat([state.unsqueeze(1), y[:, :-1]], dim=1)
    return before[:, : y.shape[1]].flatten(0, 1)


def _product_flops(weight: Tensor, y: Tensor) -> float:
    """The product of each token's h with the recurrent matrix."""
    return 2 * y.shape[0] * y.shape[1] * weight.numel()


GRU = define(
    "gru(Tensor inputs, Tensor weight, Tensor bias, Tensor state, bool keep_gates) "
    "-> (Tensor, Tensor)",
    _gru,
    lambda inputs, weight, bias, state, keep_gates: (
        inputs.new_empty(*inputs.shape[:2], weight.shape[1]),
        inputs.new_empty((*inputs.shape[:2], 4, weight.shape[1]) if keep_gates else (0,)),
    ),
    lambda inputs, weight, *_: _product_flops(weight, inputs),
)
GRU_BACK = define(
    "gru_backward(Tensor weight, Tensor state, Tensor y, Tensor gates, Tensor grad_y) "
    "-> (Tensor, Tensor, Tensor, Tensor)",
    _gru_backward,
    lambda weight, state, y, gates, grad_y: (
        y.new_empty(*y.shape[:2], 3 * y.shape[2]),
        y.new_empty(y.shape),
        y.new_empty(4 * y.shape[2]),
        state.new_empty(state.shape),
    ),
    lambda weight, state, y, *_: _product_flops(weight, y),
)
differentiate_by("gru", _remember_gru, _differentiate_gru)
RNN = define(
    "rnn(Tensor inputs, Tensor weight, Tensor bias, Tensor state, bool relu) -> Tensor",
    _rnn,
    lambda inputs, weight, bias, state, relu: inputs.new_empty(inputs.shape),
    lambda inputs, weight, *_: _product_flops(weight, inputs),
)
RNN_BACK = define(
    "rnn_backward(Tensor weight, Tensor y, Tensor grad_y, bool relu) -> (Tensor, Tensor, Tensor)",
    _rnn_backward,
    lambda weight, y, grad_y, relu: (
        y.new_empty(y.shape),
        y.new_empty(y.shape[2]),
        y.new_empty(y.shape[0], y.shape[2]),
    ),
    lambda weight, y, *_: _product_flops(weight, y),
)
differentiate_by("rnn", _remember_rnn, _differentiate_rnn)
