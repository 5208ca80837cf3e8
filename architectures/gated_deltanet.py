"""Gated DeltaNet: Yang et al. 2024, https://arxiv.org/abs/2412.06464, section 3.4 and figure 1.

    q, k, v = silu(causal_convolution(project_in(x)));  q, k each of length 1
    a_t = exp(-exp(A_log) softplus(Linear(x_t) + dt_bias))        (Mamba-2's decay)
    b_t = sigmoid(Linear(x_t))
    S_t = a_t (I - b_t k_t k_t^T) S_{t-1} + b_t k_t v_t^T         (equation 10; S transposed)
    output = project_out(norm(q_t S_t / sqrt(N)) silu(Linear(x_t)))

Decays begin as Mamba-2's, as the paper says: A uniform in [1, 16], dt log-uniform in [1e-3, 1e-1].
(The code of one of its authors, fla-org/flash-linear-attention, draws A from [0, 16].)

B batch, T time, D width, E width of values (expand D), H heads, N = D/H, P = E/H, K taps of the
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
from architectures.kernels.delta_rule import (
    gated_delta_rule,
    gated_delta_rule_flops_per_token,
)
from architectures.layers.checks import check_at_least, check_divides
from architectures.layers.residual import Residual

DT_MIN, DT_MAX = 1e-3, 1e-1
A_MIN, A_MAX = 1.0, 16.0
EPSILON = 1e-6


class GatedDeltaMixer(Body):
    """State: the convolution's last inputs (B, K - 1, 2 D + E), and S (B, H, N, P)."""

    def __init__(self, width: int, *, heads: int, expand: int, taps: int) -> None:
        super().__init__(width)
        inner = expand * width
        self.heads = heads
        self.sizes = (2 * width + inner, inner, heads, heads)  # q, k and v; the gate; dt; beta
        self.project_in = nn.Linear(width, sum(self.sizes), bias=False)
        bound = 1 / math.sqrt(taps)
        convolved = self.sizes[0]
        self.conv_weight = nn.Parameter(torch.empty(convolved, taps).uniform_(-bound, bound))
        dt = torch.empty(heads).uniform_(math.log(DT_MIN), math.log(DT_MAX)).exp()
        self.dt_bias = nn.Parameter(dt + torch.log(-torch.expm1(-dt)))
        self.A_log = nn.Parameter(torch.empty(heads).uniform_(A_MIN, A_MAX).log())
        self.norm_weight = nn.Parameter(torch.ones(inner // heads))
        self.project_out = nn.Linear(inner, width, bias=False)

    def forward(
        self, x: Tensor, state: State = None, *, lengths: Tensor | None = None
    ) -> tuple[Tensor, State]:
        """Map x (B, T, D) to y (B, T, D)."""
        self.check_call(x, state, lengths)
        conv_state, memory = (None, None) if state is None else state
        convolved, gate, dt, beta = self.project_in(x).split(self.sizes, dim=2)
        convolved, conv_state = causal_convolution(
            convolved, self.conv_weight, convolved.new_zeros(self.sizes[0]), conv_state, lengths
        )  # (B, T, 2 D + E)
        # At least float32, whatever autocast or the parameters say: a state adds up all of T.
        dtype = torch.promote_types(self.A_log.dtype, torch.float32)
        q, k, v = (
            part.unflatten(2, (self.heads, -1))  # (B, T, H, N or P)
            for part in silu(convolved)
            .to(dtype)
            .split([self.width, self.width, self.sizes[1]], dim=2)
        )
        q, k = of_length_one(q) / math.sqrt(q.shape[3]), of_length_one(k)
        dt = softplus(dt.to(dtype) + self.dt_bias.to(dtype))  # (B, T, H)
        beta = beta.to(dtype).sigmoid()  # (B, T, H)
        if lengths is not None:
            # Where dt is 0 nothing decays, where beta is 0 nothing is written.
            padding = ~real_positions(lengths, x.shape[1]).unsqueeze(2)
            dt, beta = dt.masked_fill(padding, 0.0), beta.masked_fill(padding, 0.0)
        log_decay = -self.A_log.to(dtype).exp() * dt
        y, memory = gated_delta_rule(q, k, v, beta, log_decay, memory)  # y (B, T, H, P)
        y = y * (y.square().mean(3, keepdim=True) + EPSILON).rsqrt() * self.norm_weight
        y = y.flatten(2).to(gate.dtype) * silu(gate)  # (B, T, E)
        return self.project_out(y), (conv_state, memory)

    def flops_per_token(self, length: int) -> float:
        """The two projections, the convolution (2 K (2 D + E)) and the delta rule."""
        products = 2.0 * (self.project_in.weight.numel() + self.project_out.weight.numel())
        rule = gated_delta_rule_flops_per_token(
            length, self.width // self.heads, self.sizes[1] // self.heads, self.heads
        )
        return products + 2.0 * self.conv_weight.numel() + rule

    def param_groups(self) -> list[ParamGroup]:
        """A and the bias of dt: no decay, as in the authors' code."""
        return [ParamGroup(parameters=(self.A_log, self.dt_bias), weight_decay=0.0)]


class GatedDeltanet(Residual):
    """Gated DeltaNet: a matrix memory that decays, and erases a key's old value before the new.

    State: per layer the convolution's last inputs (B, K - 1, 2 D + E) and S (B, H, N, P).
    """

    def __init__(
        self,
        width: int,
        *,
        layers: int = 2,
        heads: int = 4,
        expand: int = 2,
        taps: int = 4,
        mlp_ratio: float = 2.0,
        dropout: float = 0.0,
    ) -> None:
        check_at_least("layers", layers, 1)
        check_at_least("heads", heads, 1)
        check_at_least("expand", expand, 1)
        check_at_least("taps", taps, 1)
        check_divides("heads =", heads, width)
        mixers = [
            GatedDeltaMixer(width, heads=heads, expand=expand, taps=taps) for _ in range(layers)
        ]
        super().__init__(width, mixers, mlp_ratio=mlp_ratio, dropout=dropout)

    @classmethod
    def width_multiple(cls, **options: Any) -> int:
        """As many channels for each head as for the others."""
        return int(options.get("heads", 4))


def of_length_one(x: Tensor) -> Tensor:
    """Divide x (..., N) by its Euclidean norm."""
    return x * (x.square().sum(-1, keepdim=True) + EPSILON).rsqrt()
