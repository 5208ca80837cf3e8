"""The matrix memory of xLSTM: Beck et al. 2024, https://arxiv.org/abs/2405.04517, section 2.3.

    C_t = f_t C_{t-1} + i_t k_t v_t^T    n_t = f_t n_{t-1} + i_t k_t    (19, 20; C transposed)
    y_t = q_t C_t / max(|q_t n_t|, 1)                                   (21)

The input gate i is an exponential: C and n are kept divided by e^m (appendix A). Since y divides by
at least 1, m need not fall below 0, and e^-m cannot overflow:

    m_t = max(log f_t + m_{t-1}, log i_t, 0)

What is left is linear attention with decays f_t e^(m_{t-1} - m_t), at most 1 (kernels/ssd.py), n
being C's last column.

B batch, T time, H heads, N key width, P value width.
"""

from __future__ import annotations

from typing import TypeAlias

import torch
from torch import Tensor
from torch.nn.functional import pad

from architectures.kernels.running_maximum import running_maximum
from architectures.kernels.ssd import ssd, ssd_flops_per_token

MlstmState: TypeAlias = tuple[Tensor, Tensor]
"""C beside n, divided by e^m, (B, H, N, P + 1), and m (B, H)."""


def mlstm(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    log_input: Tensor,
    log_forget: Tensor,
    state: MlstmState | None = None,
) -> tuple[Tensor, MlstmState]:
    """Scan q and k (B, T, H, N) and v (B, T, H, P) with log_input and log_forget (B, T, H).

    `state` is that before the first token, zeros if None. Returns y (B, T, H, P) and the state
    after the last token. A token with log_input = -inf and log_forget = 0 leaves the state.
    """
    memory, m = (None, v.new_zeros(v.shape[0], v.shape[2])) if state is None else state
    maximum = running_maximum(log_forget, log_input.clamp(min=0.0), m)  # (B, T, H)
    before = torch.cat([m.unsqueeze(1), maximum[:, :-1]], dim=1)
    weight = (log_input - maximum).exp().unsqueeze(3)
    # A column of ones beside v sums up the keys.
    read, memory = ssd(
        q, weight * k, pad(v, (0, 1), value=1.0), log_forget + before - maximum, memory
    )  # (B, T, H, P + 1)
    least = (-maximum).exp().unsqueeze(3)
    y = read[..., :-1] / torch.maximum(read[..., -1:].abs(), least)
    return y, (memory, maximum[:, -1].clone())


def mlstm_flops_per_token(length: int, key_width: int, value_width: int, heads: int) -> float:
    """Those of linear attention with a normaliser."""
    return ssd_flops_per_token(length, key_width, value_width + 1, heads)
