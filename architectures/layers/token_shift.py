"""Token shift: the input of the token before, as RWKV mixes it into its projections.

Peng et al. 2023, https://arxiv.org/abs/2305.13048, section 3.1.

B batch, T time, D width.
"""

from __future__ import annotations

import torch
from torch import Tensor

from architectures.kernels.linear_scan import last_state


def token_shift(
    x: Tensor, state: Tensor | None = None, lengths: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Each token's predecessor, and the last token, that before `lengths` (B,) if it is given.

    x is (B, T, D); `state` (B, D) is the token before the first, zeros if None.
    """
    if state is None:
        state = torch.zeros_like(x[:, 0])
    previous = torch.cat([state.unsqueeze(1), x[:, :-1]], dim=1)  # (B, T, D)
    return previous, last_state(x, lengths)
