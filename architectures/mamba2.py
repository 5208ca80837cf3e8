"""Mamba-2: Dao and Gu 2024, https://arxiv.org/abs/2405.21060, section 7.1 and figure 6.

    z, x, B, C, dt = in_proj(input)
    x, B, C = silu(causal_convolution(x, B, C))
    dt = softplus(dt + dt_bias);  a = exp(-exp(A_log) dt)      (a scalar for each head)
    S_t = a_t S_{t-1} + B_t (dt_t x_t)^T                       (section 5.1; kernels/ssd.py)
    y_t = C_t S_t + D x_t
    output = out_proj(norm(y silu(z)))

One group: all heads share B and C. Initialisation as in the authors' code (state-spaces/mamba,
modules/mamba2.py): A uniform in [1, 16], D = 1, dt log-uniform in [1e-3, 1e-1] through its bias, by
the inverse of softplus. Departure: their language model also divides out_proj by the root of the
number of layers.

B batch, T time, D width, E inner width (expand D), H heads, P = E/H, N state, K taps of the
convolution.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import silu, softplus

from architectures.body import Body, ParamGroup, State, real_positions
from architectures.kernels.causal_convolution import causal_convolution
from architectures.kernels.ssd import selective_ssd, ssd_flops_per_token
from architectures.layers.checks import check_at_least, check_divides
from architectures.layers.residual import Residual

DT_MIN, DT_MAX = 1e-3, 1e-1
A_MIN, A_MAX = 1.0, 16.0
NORM_EPSILON = 1e-5


class Mamba2Mixer(Body):
    """State: the last K - 1 inputs of the convolution (B, K - 1, E + 2 N), and S (B, H, N, P)."""

    def __init__(self, width: int, *, heads: int, n_state: int, expand: int, taps: int) -> None:
        super().__init__(width)
        inner = expand * width
        convolved = inner + 2 * n_state
        self.sizes = (inner, convolved, heads)
        self.in_proj = nn.Linear(width, sum(self.sizes), bias=False)
        bound = 1 / math.sqrt(taps)
        self.conv_weight = nn.Parameter(torch.empty(convolved, taps).uniform_(-bound, bound))
        self.conv_bias = nn.Parameter(torch.empty(convolved).uniform_(-bound, bound))
        dt = torch.empty(heads).uniform_(math.log(DT_MIN), math.log(DT_MAX)).exp()
        self.dt_bias = nn.Parameter(dt + torch.log(-torch.expm1(-dt)))
        self.A_log = nn.Parameter(torch.empty(heads).uniform_(A_MIN, A_MAX).log())
        self.D = nn.Parameter(torch.ones(heads))
        self.norm_weight = nn.Parameter(torch.ones(inner))
        self.out_proj = nn.Linear(inner, width, bias=False)

    def forward(
        self, x: Tensor, state: State = None, *, lengths: Tensor | None = None
    ) -> tuple[Tensor, State]:
        """Map x (B, T, D) to y (B, T, D)."""
        self.check_call(x, state, lengths)
        conv_state, scan_state = (None, None) if state is None else state
        gate, convolved, dt = self.in_proj(x).split(self.sizes, dim=-1)
        convolved, conv_state = causal_convolution(
            convolved, self.conv_weight, self.conv_bias, conv_state, lengths
        )  # (B, T, E + 2 N)
        # At least float32, whatever autocast or the parameters say: a state adds up all of T.
        dtype = torch.promote_types(self.A_log.dtype, torch.float32)
        inner, _, heads = self.sizes
        n_state = (convolved.shape[2] - inner) // 2
        u, B, C = silu(convolved).to(dtype).split([inner, n_state, n_state], dim=-1)
        u = u.unflatten(2, (heads, -1))  # (B, T, H, P)
        dt = softplus(dt.to(dtype) + self.dt_bias.to(dtype))  # (B, T, H)
        if lengths is not None:
            # Where dt is 0 nothing decays and nothing is written.
            dt = dt.masked_fill(~real_positions(lengths, x.shape[1]).unsqueeze(2), 0.0)
        A = -self.A_log.to(dtype).exp()
        y, scan_state = selective_ssd(u, dt, A, B, C, self.D.to(dtype), scan_state)
        y = y.flatten(2)  # (B, T, E)
        y = y * silu(gate.to(dtype))
        y = y * (y.square().mean(2, keepdim=True) + NORM_EPSILON).rsqrt() * self.norm_weight
        return self.out_proj(y.to(gate.dtype)), (conv_state, scan_state)

    def flops_per_token(self, length: int) -> float:
        """The two projections, the convolution (2 K (E + 2 N)), the scan and D x."""
        inner, convolved, heads = self.sizes
        products = 2.0 * (self.in_proj.weight.numel() + self.out_proj.weight.numel())
        n_state = (convolved - inner) // 2
        scan = ssd_flops_per_token(length, n_state, inner // heads, heads, heads_of_keys=1)
        return products + 2.0 * self.conv_weight.numel() + scan + 2.0 * inner

    def param_groups(self) -> list[ParamGroup]:
        """A, D and the bias of dt: no decay, as in the authors' code."""
        return [ParamGroup(parameters=(self.A_log, self.D, self.dt_bias), weight_decay=0.0)]


class Mamba2(Residual):
    """Mamba-2: a selective state space with one decay for each head, computed as masked attention.

    State: per layer the convolution's last inputs (B, K - 1, E + 2 N) and S (B, H, N, P).
    """

    def __init__(
        self,
        width: int,
        *,
        layers: int = 2,
        heads: int = 4,
        state: int = 64,
        expand: int = 2,
        taps: int = 4,
        mlp_ratio: float = 0.0,
        dropout: float = 0.0,
    ) -> None:
        check_at_least("layers", layers, 1)
        check_at_least("heads", heads, 1)
        check_at_least("state", state, 1)
        check_at_least("expand", expand, 1)
        check_at_least("taps", taps, 1)
        check_divides("heads / gcd(heads, expand) =", heads // math.gcd(heads, expand), width)
        mixers = [
            Mamba2Mixer(width, heads=heads, n_state=state, expand=expand, taps=taps)
            for _ in range(layers)
        ]
        super().__init__(width, mixers, mlp_ratio=mlp_ratio, dropout=dropout)

    @classmethod
    def width_multiple(cls, **options: Any) -> int:
        """As many of the expanded channels for each head as for the others."""
        heads = int(options.get("heads", 4))
        return heads // math.gcd(heads, int(options.get("expand", 2)))
