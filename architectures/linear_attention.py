"""Linear attention: Katharopoulos et al. 2020, https://arxiv.org/abs/2006.16236, section 3.

    phi(x) = elu(x) + 1                                       (equation 7)
    S_t = S_{t-1} + phi(k_t) v_t^T                            (equation 18)
    z_t = z_{t-1} + phi(k_t)                                  (equation 19)
    y_t = phi(q_t) S_t / (phi(q_t) z_t)                       (equation 20)

As in the authors' code, the denominator gets an epsilon, for features that are all 0. Sums know no
order: the paper adds positions to the embeddings, here a short causal convolution of q, k and v can
tell them (taps > 1), as in the recurrences that came after. taps = 1 is the paper's layer.

B batch, T time, D width, H heads, d = D/H, K taps of the convolution.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import elu, pad

from architectures.body import Body, State, real_positions
from architectures.kernels.causal_convolution import causal_convolution
from architectures.kernels.ssd import ssd, ssd_flops_per_token
from architectures.layers.checks import check_at_least, check_divides
from architectures.layers.residual import Residual

EPSILON = 1e-6


class LinearAttentionMixer(Body):
    """State: the convolution's last inputs (B, K - 1, 3 D), and S beside z, (B, H, d, d + 1)."""

    def __init__(self, width: int, *, heads: int, taps: int) -> None:
        super().__init__(width)
        self.heads = heads
        self.project_in = nn.Linear(width, 3 * width, bias=False)
        self.project_out = nn.Linear(width, width, bias=False)
        self.taps = taps
        if taps > 1:
            bound = 1 / math.sqrt(taps)
            self.conv_weight = nn.Parameter(torch.empty(3 * width, taps).uniform_(-bound, bound))
            self.conv_bias = nn.Parameter(torch.empty(3 * width).uniform_(-bound, bound))

    def forward(
        self, x: Tensor, state: State = None, *, lengths: Tensor | None = None
    ) -> tuple[Tensor, State]:
        """Map x (B, T, D) to y (B, T, D)."""
        self.check_call(x, state, lengths)
        conv_state, sums = (None, None) if state is None else state
        projected = self.project_in(x)  # (B, T, 3 D)
        if self.taps > 1:
            projected, conv_state = causal_convolution(
                projected, self.conv_weight, self.conv_bias, conv_state, lengths
            )
        dtype = torch.promote_types(self.project_in.weight.dtype, torch.float32)
        heads = projected.to(dtype).unflatten(2, (3, self.heads, -1))  # (B, T, 3, H, d)
        q, k, v = heads.unbind(2)  # each (B, T, H, d)
        q, k = elu(q) + 1, elu(k) + 1
        if lengths is not None:
            k = k.masked_fill(~real_positions(lengths, x.shape[1])[:, :, None, None], 0.0)
        # A column of ones beside v sums up the keys.
        y, sums = ssd(q, k, pad(v, (0, 1), value=1.0), state=sums)  # (B, T, H, d + 1)
        y = y[..., :-1] / (y[..., -1:] + EPSILON)
        return self.project_out(y.flatten(2).to(projected.dtype)), (conv_state, sums)

    def flops_per_token(self, length: int) -> float:
        """Projections, 8 D^2, the convolution (6 K D) and the sums."""
        head_width = self.width // self.heads
        sums = ssd_flops_per_token(length, head_width, head_width + 1, self.heads)
        convolution = 6.0 * self.taps * self.width if self.taps > 1 else 0.0
        return 8.0 * self.width**2 + convolution + sums


class LinearAttention(Residual):
    """Linear attention: a sum of outer products in the place of the softmax, and its normaliser.

    State: per layer the convolution's last inputs (B, K - 1, 3 D) and the sums (B, H, d, d + 1).
    """

    def __init__(
        self,
        width: int,
        *,
        layers: int = 2,
        heads: int = 4,
        taps: int = 4,
        mlp_ratio: float = 4.0,
        dropout: float = 0.0,
    ) -> None:
        check_at_least("layers", layers, 1)
        check_at_least("heads", heads, 1)
        check_at_least("taps", taps, 1)
        check_divides("heads =", heads, width)
        mixers = [LinearAttentionMixer(width, heads=heads, taps=taps) for _ in range(layers)]
        super().__init__(width, mixers, mlp_ratio=mlp_ratio, dropout=dropout)

    @classmethod
    def width_multiple(cls, **options: Any) -> int:
        """As many channels for each head as for the others."""
        return int(options.get("heads", 4))
