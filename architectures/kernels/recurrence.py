"""The recurrences of torch's GRU and RNN, whose gates read h: in C for the CPU, and as loops.

    r, z = sigmoid(inputs + bias + U h_{t-1})                (inputs: W x_t, given)
    n = tanh(inputs + bias + r (U h_{t-1} + bias'))
    h_t = z h_{t-1} + (1 - z) n                              (GRU, gates in torch's order r, z, n)
    h_t = tanh(inputs + bias + U h_{t-1}), or relu           (RNN)

The loops say what is computed and are what native code is checked against; where there is none,
the layers take torch.nn.GRU and RNN.

B batch, T time, H width.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import linear

from architectures.kernels.native import recurrence as native
from architectures.kernels.native.library import gradients, ready, relative_error

COMPUTED_SINGLE = (torch.float32, torch.bfloat16)


def recurrence_is_native(*tensors: Tensor) -> bool:
    """Whether native code runs for these tensors: float32 or bfloat16, mixed or not, on a CPU."""
    if any(x.dtype not in COMPUTED_SINGLE or x.device.type != "cpu" for x in tensors):
        return False
    return ready(native.KERNEL.name)


def gru_recurrence(inputs: Tensor, weight: Tensor, bias: Tensor, state: Tensor) -> Tensor:
    """All h (B, T, H) of inputs (B, T, 3H), weight U (3H, H), bias (4H,) and state (B, H).

    The biases are those of r, z and n, and bias'. The result has the dtype of the inputs; what is
    bfloat16 is computed in float32.
    """
    tensors = inputs.float(), weight.float(), bias.float(), state.float()
    differentiates = torch.is_grad_enabled() and any(x.requires_grad for x in tensors)
    y: Tensor = native.GRU(*tensors, differentiates)[0]
    return y.to(inputs.dtype)


def rnn_recurrence(
    inputs: Tensor, weight: Tensor, bias: Tensor, state: Tensor, *, relu: bool
) -> Tensor:
    """All h (B, T, H) of inputs (B, T, H), weight U (H, H), bias (H,) and state (B, H)."""
    y: Tensor = native.RNN(inputs.float(), weight.float(), bias.float(), state.float(), relu)
    return y.to(inputs.dtype)


def gru_loop(inputs: Tensor, weight: Tensor, bias: Tensor, state: Tensor) -> Tensor:
    """As `gru_recurrence`, token by token."""
    outside, inside = bias.split([inputs.shape[2], state.shape[1]])
    outputs = []
    for x in (inputs + outside).unbind(1):
        x_r, x_z, x_n = x.chunk(3, dim=-1)  # each (B, H)
        h_r, h_z, h_n = linear(state, weight).chunk(3, dim=-1)
        reset, update = (x_r + h_r).sigmoid(), (x_z + h_z).sigmoid()
        candidate = (x_n + reset * (h_n + inside)).tanh()
        state = torch.lerp(candidate, state, update)
        outputs.append(state)
    return torch.stack(outputs, dim=1)


def rnn_loop(inputs: Tensor, weight: Tensor, bias: Tensor, state: Tensor, *, relu: bool) -> Tensor:
    """As `rnn_recurrence`, token by token."""
    outputs = []
    for x in (inputs + bias).unbind(1):
        total = x + linear(state, weight)
        state = total.relu() if relu else total.tanh()
        outputs.append(state)
    return torch.stack(outputs, dim=1)


def _self_check() -> float:
    """The largest error of native code, with all gradients, against the loops in float64."""
    n_rows, length, width = 5, 4, 19
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64, device="cpu") / 2

    gru = normal(n_rows, length, 3 * width), normal(3 * width, width), normal(4 * width)
    inputs = [*gru, normal(n_rows, width)]
    found = gradients(lambda *x: [native.GRU(*x, True)[0]], [x.float() for x in inputs])
    errors = [relative_error(found, gradients(lambda *x: [gru_loop(*x)], inputs))]
    inputs = [normal(n_rows, length, width), normal(width, width), normal(width)]
    inputs.append(normal(n_rows, width))
    for relu in (False, True):
        found = gradients(lambda *x: [native.RNN(*x, relu)], [x.float() for x in inputs])  # noqa: B023
        exact = gradients(lambda *x: [rnn_loop(*x, relu=relu)], inputs)  # noqa: B023
        errors.append(relative_error(found, exact))
    return max(errors)


native.KERNEL.check = _self_check
