"""The scalar memory of xLSTM: Beck et al. 2024, https://arxiv.org/abs/2405.04517, section 2.2.

    gates = Linear(x_t) + R h_{t-1}        (given: the first; R block-diagonal, one block a head)
    c_t = f_t c_{t-1} + i_t tanh(z)        n_t = f_t n_{t-1} + i_t          (8 and 9)
    h_t = sigmoid(o) c_t / n_t                                              (10)

with i = exp and f = sigmoid of their gates. c and n are kept divided by e^m (15 to 17):

    m_t = max(log f_t + m_{t-1}, log i_t)

Gates read h: token by token, heads first inside, (H, B, d).

B batch, T time, H heads, d width of a head.
"""

from __future__ import annotations

from typing import TypeAlias

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from architectures.kernels.linear_scan import last_state
from architectures.kernels.paths import REFERENCE, note
from architectures.kernels.uncompiled import left_to_python

SlstmState: TypeAlias = tuple[Tensor, Tensor, Tensor, Tensor]
"""h, c e^-m, n e^-m and m, (B, H, d) each."""


@left_to_python
def slstm(
    gates: Tensor,
    recurrent: Tensor,
    state: SlstmState | None = None,
    lengths: Tensor | None = None,
) -> tuple[Tensor, SlstmState]:
    """Run over gates (B, T, H, 4 d), of z, i, f and o, with the recurrent weight (H, d, 4 d).

    `state` is that before the first token, zeros if None. Returns h (B, T, H, d) and the state
    after the last token, or after `lengths` (B,) tokens if it is given.
    """
    note("slstm", REFERENCE)
    n_rows, _, heads, width = gates.shape
    if state is None:
        nothing = gates.new_zeros(n_rows, heads, width // 4)
        # Nothing was seen: the first token sets the maximum.
        state = nothing, nothing, nothing, nothing - torch.inf
    h, c, n, m = (part.transpose(0, 1) for part in state)  # (H, B, d)
    visited = []
    # A state adds up all of T: the products stay in the dtype of the operands.
    with torch.autocast(gates.device.type, enabled=False):
        for gates_t in gates.permute(1, 2, 0, 3).unbind(0):  # (H, B, 4 d)
            z, log_i, f, o = torch.baddbmm(gates_t, h, recurrent).chunk(4, dim=2)
            log_f = logsigmoid(f) + m
            m = torch.maximum(log_f, log_i)
            kept, written = (log_f - m).exp(), (log_i - m).exp()
            c = kept * c + written * z.tanh()
            n = kept * n + written
            h = o.sigmoid() * c / n
            visited.append((h, c, n, m))
    if lengths is None:
        final = [part.transpose(0, 1).contiguous() for part in visited[-1]]
    else:
        final = [last_state(batch_first(parts), lengths) for parts in zip(*visited, strict=True)]
    outputs = batch_first(tuple(h for h, _, _, _ in visited))
    return outputs, (final[0], final[1], final[2], final[3])


def batch_first(parts: tuple[Tensor, ...]) -> Tensor:
    """T tensors (H, B, d) as one of (B, T, H, d)."""
    return torch.stack(parts).permute(2, 0, 1, 3)


def slstm_flops_per_token(head_width: int, heads: int) -> float:
    """The recurrent product, 8 d^2 a head, and 8 operations for each channel."""
    return heads * (8.0 * head_width**2 + 8.0 * head_width)
