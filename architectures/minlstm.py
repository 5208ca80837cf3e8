"""Minimal LSTM: Feng et al. 2024, https://arxiv.org/abs/2410.01201, section 3.2.

    f_t = sigmoid(Linear(x_t)),  i_t = sigmoid(Linear(x_t))
    c_t = Linear(x_t)                       (the candidate; "positive": g of it, appendix B)
    h_t = f_t / (f_t + i_t) h_{t-1} + i_t / (f_t + i_t) c_t

The paper trains in log space, for which c has to be positive; the scan here takes any sign. A
bias of the forget gate above 0 makes it remember longer at first (appendix D).
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import softplus

from architectures.layers.checks import check_at_least, check_finite
from architectures.layers.gated_recurrence import GatedRecurrence
from architectures.layers.residual import Residual


class MinLstmMixer(GatedRecurrence):
    """Forget gate, input gate and candidate. State: h (B, expand D)."""

    n_projections = 3

    def __init__(
        self,
        width: int,
        *,
        expand: int = 1,
        candidate: Literal["linear", "positive"] = "linear",
        forget_bias: float = 0.0,
    ) -> None:
        super().__init__(width, expand=expand, candidate=candidate)
        check_finite("forget_bias", forget_bias)
        with torch.no_grad():
            self.project_in.bias[: expand * width] += forget_bias

    def gate(self, projected: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
        """Return f / (f + i) and i / (f + i) c, (..., E) both."""
        forget, write, candidate = projected
        # The logarithm of f / i: no quotient of two numbers that may both vanish.
        balance = softplus(-write) - softplus(-forget)
        return balance.sigmoid(), (-balance).sigmoid() * self.candidate_of(candidate)


class MinLstm(Residual):
    """Minimal LSTM: its gates read the input alone and sum to 1; no cell besides the state.

    State: per layer h (B, expand D).
    """

    def __init__(
        self,
        width: int,
        *,
        layers: int = 2,
        expand: int = 1,
        candidate: Literal["linear", "positive"] = "linear",
        forget_bias: float = 0.0,
        mlp_ratio: float = 2.0,
        dropout: float = 0.0,
    ) -> None:
        check_at_least("layers", layers, 1)
        mixers = [
            MinLstmMixer(width, expand=expand, candidate=candidate, forget_bias=forget_bias)
            for _ in range(layers)
        ]
        super().__init__(width, mixers, mlp_ratio=mlp_ratio, dropout=dropout)
