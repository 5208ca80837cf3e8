"""The maximum that stabilises exponential gates, for all tokens at once.

    m_t = max(m_{t-1} + log_decay_t, x_t)

With F the sum of the log decays, this is F_t + max(m_0, max over s <= t of x_s - F_s).

B batch, T time, E width.
"""

from __future__ import annotations

import torch
from torch import Tensor


def running_maximum(log_decay: Tensor, x: Tensor, start: Tensor) -> Tensor:
    """All m (B, T, E) for x (B, T, E), log_decay of that shape or (1, T, E), and start (B, E)."""
    # In float64: F grows with T, and what counts is the difference of two such sums.
    fallen = log_decay.double().cumsum(1)
    risen = (x.double() - fallen).cummax(1).values
    return (torch.maximum(risen, start.double().unsqueeze(1)) + fallen).to(x.dtype)
