"""Minimal GRU: Feng et al. 2024, https://arxiv.org/abs/2410.01201, section 3.1.

    z_t = sigmoid(Linear(x_t))
    c_t = Linear(x_t)                       (the candidate; "positive": g of it, appendix B)
    h_t = (1 - z_t) h_{t-1} + z_t c_t

The paper trains in log space, for which c has to be positive; the scan here takes any sign.
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from architectures.layers.checks import check_at_least
from architectures.layers.gated_recurrence import GatedRecurrence
from architectures.layers.residual import Residual


class MinGruMixer(GatedRecurrence):
    """One gate and the candidate. State: h (B, expand D)."""

    n_projections = 2

    def gate(self, projected: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
        """Return 1 - z and z c, (..., E) both."""
        update, candidate = projected
        # 1 - sigmoid(x) is sigmoid(-x), which keeps its digits where z is near 1.
        return (-update).sigmoid(), update.sigmoid() * self.candidate_of(candidate)


class MinGru(Residual):
    """Minimal GRU: its gates read the input alone, so that the recurrence is a linear scan.

    State: per layer h (B, expand D).
    """

    def __init__(
        self,
        width: int,
        *,
        layers: int = 2,
        expand: int = 1,
        candidate: Literal["linear", "positive"] = "linear",
        mlp_ratio: float = 2.0,
        dropout: float = 0.0,
    ) -> None:
        check_at_least("layers", layers, 1)
        mixers = [MinGruMixer(width, expand=expand, candidate=candidate) for _ in range(layers)]
        super().__init__(width, mixers, mlp_ratio=mlp_ratio, dropout=dropout)
