"""Linear recurrent unit: Orvieto et al. 2023, https://arxiv.org/abs/2303.06349, appendix A.

    h_t = lambda h_{t-1} + gamma B x_t,   y_t = Re(C h_t) + D x_t
    lambda = exp(-exp(nu) + i exp(theta))           (section 3.3: |lambda| < 1 at any nu)
    gamma = sqrt(1 - |lambda|^2) at first, then learned as exp(gamma_log)      (section 3.4)

Initialisation (appendix A): lambda uniform on the ring r_min <= |lambda| <= r_max with phases below
max_phase (lemma 3.2, section 3.4), Re B and Im B of variance 1 / (2 D), Re C and Im C of 1 / N, D
standard normal. nu, theta, gamma and B learn at a fraction of the rate and do not decay (D.2).
Departure: the batch norm of the paper's block is the backbone's layer norm.

B batch, T time, D width, N complex states.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, glu

from architectures.body import ParamGroup
from architectures.layers.checks import check_at_least
from architectures.layers.diagonal_recurrence import DiagonalRecurrence
from architectures.layers.residual import Residual

RECURRENT_LEARNING_RATE_SCALE = 0.25  # table 9: from 0.1 to 0.5, this for half of the tasks
# What float32 can hold of |lambda|^2, so that its logarithm and 1 - |lambda|^2 are not 0.
SMALLEST, LARGEST = 1e-12, 1 - 1e-6


class LruLayer(DiagonalRecurrence):
    """The recurrence, GELU, and a gated linear unit that mixes channels. State: h (B, N, 2)."""

    def __init__(
        self,
        width: int,
        *,
        n_state: int,
        r_min: float,
        r_max: float,
        max_phase: float,
        dropout: float,
    ) -> None:
        super().__init__(width)
        self.n_state = n_state
        # Uniform on the ring's area: the square of the radius is uniform.
        square = torch.empty(n_state).uniform_(r_min**2, r_max**2).clamp(SMALLEST, LARGEST)
        phase = torch.empty(n_state).uniform_(0, max_phase).clamp(min=SMALLEST)
        self.nu = nn.Parameter((-0.5 * square.log()).log())  # (N,)
        self.theta = nn.Parameter(phase.log())  # (N,)
        self.gamma_log = nn.Parameter(0.5 * torch.log1p(-square))  # (N,)
        self.B = nn.Parameter(torch.randn(n_state, width, 2) / math.sqrt(2 * width))
        self.C = nn.Parameter(torch.randn(width, n_state, 2) / math.sqrt(n_state))
        self.D = nn.Parameter(torch.randn(width))
        self.dropout = nn.Dropout(dropout)
        self.mix = nn.Linear(width, 2 * width)

    def discretise(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return lambda (N,), gamma B (N, D) and C (D, N), complex."""
        dtype = torch.promote_types(self.nu.dtype, torch.float32)
        exponent = torch.complex(-self.nu.to(dtype).exp(), self.theta.to(dtype).exp())
        B = self.gamma_log.to(dtype).exp().view(-1, 1, 1) * self.B.to(dtype)
        C = torch.view_as_complex(self.C.to(dtype))
        return exponent.exp(), torch.view_as_complex(B), C

    def mix_channels(self, y: Tensor) -> Tensor:
        """GELU, then a gated linear unit, on (..., D)."""
        return glu(self.mix(self.dropout(gelu(y))), dim=-1)

    def mixing_flops_per_token(self) -> float:
        """The gated unit, 4 D^2."""
        return 4.0 * self.width**2

    def param_groups(self) -> list[ParamGroup]:
        """The recurrence's parameters, B included: no decay and a fraction of the rate (D.2)."""
        return [
            ParamGroup(
                parameters=(self.nu, self.theta, self.gamma_log, self.B),
                weight_decay=0.0,
                learning_rate_scale=RECURRENT_LEARNING_RATE_SCALE,
            )
        ]


class Lru(Residual):
    """Linear recurrent unit: a complex diagonal recurrence, initialised on a ring.

    State: per layer h (B, N, 2), real and imaginary parts.
    """

    def __init__(
        self,
        width: int,
        *,
        layers: int = 2,
        state: int = 64,
        r_min: float = 0.0,
        r_max: float = 1.0,
        max_phase: float = 2 * math.pi,
        mlp_ratio: float = 0.0,
        dropout: float = 0.0,
    ) -> None:
        check_at_least("layers", layers, 1)
        check_at_least("state", state, 1)
        if not 0 <= r_min <= r_max <= 1:
            raise ValueError(f"give 0 <= r_min <= r_max <= 1, not {r_min} and {r_max}")
        if not 0 < max_phase <= 2 * math.pi:
            raise ValueError(f"max_phase must be above 0 and at most 2 pi, not {max_phase}")
        mixers = [
            LruLayer(
                width,
                n_state=state,
                r_min=r_min,
                r_max=r_max,
                max_phase=max_phase,
                dropout=dropout,
            )
            for _ in range(layers)
        ]
        super().__init__(width, mixers, mlp_ratio=mlp_ratio, dropout=dropout)
