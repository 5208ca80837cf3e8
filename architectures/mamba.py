"""Mamba, selective state spaces: Gu and Dao 2023, https://arxiv.org/abs/2312.00752, section 3.4.

    x, z = in_proj(input)
    u = silu(causal_convolution(x))
    dt, B, C = x_proj(u);  dt = softplus(dt_proj(dt))       (algorithm 2)
    output = out_proj(selective_scan(u, dt, A, B, C, D) silu(z))

Initialisation (section 3.6): A = -(1..N), D = 1, dt log-uniform in [1e-3, 1e-1] through the bias of
dt_proj, by the inverse of softplus; its weight uniform within R^(-1/2), as in the authors' code.
Departure: their language model also divides out_proj by the root of the number of layers.

B batch, T time, D width, E inner width (expand D), N state, K taps of the convolution, R rank
of dt.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, silu, softplus

from architectures.body import Body, ParamGroup, State, real_positions
from architectures.kernels.causal_convolution import causal_convolution
from architectures.kernels.selective_scan import (
    selective_scan,
    selective_scan_flops_per_token,
    selective_scan_step,
)
from architectures.layers.checks import check_at_least
from architectures.layers.residual import Residual

DT_MIN, DT_MAX = 1e-3, 1e-1
WIDTH_PER_DT_RANK = 16  # R = D / 16, section 3.6


class MambaMixer(Body):
    """State: the last K - 1 inputs of the convolution (B, K - 1, E), and h (B, E, N)."""

    def __init__(self, width: int, *, n_state: int, expand: int, taps: int) -> None:
        super().__init__(width)
        inner = expand * width
        rank = math.ceil(width / WIDTH_PER_DT_RANK)
        self.in_proj = nn.Linear(width, 2 * inner, bias=False)
        bound = 1 / math.sqrt(taps)
        self.conv_weight = nn.Parameter(torch.empty(inner, taps).uniform_(-bound, bound))
        self.conv_bias = nn.Parameter(torch.empty(inner).uniform_(-bound, bound))
        self.x_proj = nn.Linear(inner, rank + 2 * n_state, bias=False)
        self.dt_proj = nn.Linear(rank, inner)
        nn.init.uniform_(self.dt_proj.weight, -(rank**-0.5), rank**-0.5)
        with torch.no_grad():
            dt = torch.empty(inner).uniform_(math.log(DT_MIN), math.log(DT_MAX)).exp()
            self.dt_proj.bias.copy_(dt + torch.log(-torch.expm1(-dt)))
        self.A_log = nn.Parameter(torch.arange(1.0, n_state + 1).log().repeat(inner, 1))  # (E, N)
        self.D = nn.Parameter(torch.ones(inner))
        self.out_proj = nn.Linear(inner, width, bias=False)

    def forward(
        self, x: Tensor, state: State = None, *, lengths: Tensor | None = None
    ) -> tuple[Tensor, State]:
        """Map x (B, T, D) to y (B, T, D)."""
        self.check_call(x, state, lengths)
        conv_state, scan_state = (None, None) if state is None else state
        u, gate = self.in_proj(x).chunk(2, dim=-1)  # each (B, T, E)
        u, conv_state = causal_convolution(u, self.conv_weight, self.conv_bias, conv_state, lengths)
        u = silu(u)
        dt, B, C = self._select(u)
        if lengths is not None:
            # With dt and u at 0 the scan keeps its state through the padding.
            padding = ~real_positions(lengths, x.shape[1]).unsqueeze(2)
            u, dt = u.masked_fill(padding, 0.0), dt.masked_fill(padding, 0.0)
        y, scan_state = selective_scan(
            u.to(dt.dtype), dt, self._decay_rates(), B, C, self.D.to(dt.dtype), scan_state
        )
        return self.out_proj(y.to(gate.dtype) * silu(gate)), (conv_state, scan_state)

    def step(self, x_t: Tensor, state: State = None) -> tuple[Tensor, State]:
        """Map one token x_t (B, D) to y_t (B, D) by the recurrence."""
        if state is None:
            return super().step(x_t)
        self.check_call(x_t.unsqueeze(1), state, None)
        conv_state, scan_state = state
        u, gate = self.in_proj(x_t).chunk(2, dim=-1)  # each (B, E)
        window = torch.cat([conv_state, u.unsqueeze(1)], dim=1)  # (B, K, E)
        u = silu((window * self.conv_weight.t()).sum(1) + self.conv_bias)
        dt, B, C = self._select(u)
        y, scan_state = selective_scan_step(
            u.to(dt.dtype), dt, self._decay_rates(), B, C, self.D.to(dt.dtype), scan_state
        )
        return self.out_proj(y.to(gate.dtype) * silu(gate)), (window[:, 1:].clone(), scan_state)

    def _select(self, u: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """From the input u (..., E) to dt (..., E), and B and C (..., N), for the scan."""
        rank, n_state = self.dt_proj.in_features, self.A_log.shape[1]
        low_rank, B, C = self.x_proj(u).split([rank, n_state, n_state], dim=-1)
        dtype = self._scan_dtype()
        # The same product, with the weight stored the other way: its gradient takes half the time.
        weight = self.dt_proj.weight.t().contiguous().t()
        dt = softplus(linear(low_rank, weight, self.dt_proj.bias).to(dtype))
        return dt, B.to(dtype), C.to(dtype)

    def _decay_rates(self) -> Tensor:
        """A (E, N), negative."""
        return -self.A_log.to(self._scan_dtype()).exp()

    def _scan_dtype(self) -> torch.dtype:
        """At least float32, whatever autocast or the parameters say: a state adds up all of T."""
        return torch.promote_types(self.A_log.dtype, torch.float32)

    def flops_per_token(self, length: int) -> float:
        """The four projections, the convolution (2 K E) and the scan."""
        projections = (self.in_proj, self.x_proj, self.dt_proj, self.out_proj)
        products = sum(2.0 * projection.weight.numel() for projection in projections)
        inner, n_state = self.A_log.shape
        scan = selective_scan_flops_per_token(inner, n_state)
        return products + 2.0 * self.conv_weight.numel() + scan

    def param_groups(self) -> list[ParamGroup]:
        """A and D: no decay, as in the authors' code; nor has dt's bias, which is a vector."""
        return [ParamGroup(parameters=(self.A_log, self.D), weight_decay=0.0)]


class Mamba(Residual):
    """Mamba: selective state spaces with a short convolution and a gate, no channel MLP.

    State: per layer the convolution's last inputs (B, K - 1, E) and h (B, E, N).
    """

    def __init__(
        self,
        width: int,
        *,
        layers: int = 2,
        state: int = 16,
        expand: int = 2,
        taps: int = 4,
        mlp_ratio: float = 0.0,
        dropout: float = 0.0,
    ) -> None:
        check_at_least("layers", layers, 1)
        check_at_least("state", state, 1)
        check_at_least("expand", expand, 1)
        check_at_least("taps", taps, 1)
        mixers = [MambaMixer(width, n_state=state, expand=expand, taps=taps) for _ in range(layers)]
        super().__init__(width, mixers, mlp_ratio=mlp_ratio, dropout=dropout)
