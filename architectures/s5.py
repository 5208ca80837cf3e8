"""S5, a state space with many inputs and outputs: Smith et al. 2023,
https://arxiv.org/abs/2208.04933, section 3.

    h' = A h + B x,  y = 2 Re(C h) + D x        (A, D diagonal; of conjugate pairs one is kept)
    exp(dt A),  (exp(dt A) - 1) / A B           (equation 6: zero-order hold, dt for each state)
    output = g sigmoid(W g),  g = GELU(y)       (the paper's gated activation)

Initialisation (section 3.2, appendix B.1): A the eigenvalues of HiPPO-LegS's normal part in J
blocks, B and C normal, in the basis of its eigenvectors V: V* B and C V; dt log-uniform.
Departures from the authors' code (lindermanlab/S5): B is of variance 1 / D, that of its inputs,
where theirs is 1 / N (the axis that jax's lecun_normal takes), and C is real, where theirs is
complex, so that this begins as a map of real matrices. A's real part is -exp(log_decay), so that it
stays negative, where the authors may clip.

B batch, T time, D width, N real states, n = N/2 complex ones, J blocks.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu

from architectures.body import ParamGroup
from architectures.layers.checks import check_at_least, check_time_steps
from architectures.layers.diagonal_recurrence import DiagonalRecurrence
from architectures.layers.hippo import legs_normal_part
from architectures.layers.residual import Residual

DYNAMICS_MAX_LEARNING_RATE = 1e-3  # of dt, A and B: "standard" in the authors' train_helpers.py


class S5Layer(DiagonalRecurrence):
    """The state space and a gate that mixes channels. State: h (B, n, 2)."""

    def __init__(
        self,
        width: int,
        *,
        n_state: int,
        n_blocks: int,
        dt_min: float,
        dt_max: float,
        dropout: float,
    ) -> None:
        super().__init__(width)
        self.n_state = n_state // 2
        frequency, vectors = legs_normal_part(n_state // n_blocks)
        V = torch.block_diag(*[vectors] * n_blocks).to(torch.complex64)  # (N, n)
        real_B = torch.randn(n_state, width) / math.sqrt(width)
        real_C = torch.randn(width, n_state) / math.sqrt(n_state)
        log_dt = torch.empty(self.n_state).uniform_(math.log(dt_min), math.log(dt_max))
        self.log_dt = nn.Parameter(log_dt)  # (n,)
        self.log_decay = nn.Parameter(torch.full((self.n_state,), math.log(0.5)))  # (n,)
        self.frequency = nn.Parameter(frequency.float().repeat(n_blocks))  # (n,)
        self.B = nn.Parameter(torch.view_as_real(V.mH @ real_B.to(V.dtype)).clone())  # (n, D, 2)
        self.C = nn.Parameter(torch.view_as_real(real_C.to(V.dtype) @ V).clone())  # (D, n, 2)
        self.D = nn.Parameter(torch.randn(width))
        self.dropout = nn.Dropout(dropout)
        self.gate = nn.Linear(width, width)

    def discretise(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return exp(dt A) (n,), (exp(dt A) - 1) / A B (n, D) and 2 C (D, n), complex."""
        dtype = torch.promote_types(self.C.dtype, torch.float32)
        A = torch.complex(-self.log_decay.to(dtype).exp(), self.frequency.to(dtype))  # (n,)
        z = A * self.log_dt.to(dtype).exp()
        B = (torch.expm1(z) / A).unsqueeze(1) * torch.view_as_complex(self.B.to(dtype))
        return z.exp(), B, 2 * torch.view_as_complex(self.C.to(dtype))

    def mix_channels(self, y: Tensor) -> Tensor:
        """GELU, gated by a product of itself, on (..., D)."""
        activated: Tensor = self.dropout(gelu(y))
        gate: Tensor = self.gate(activated)
        return activated * gate.sigmoid()

    def mixing_flops_per_token(self) -> float:
        """The gate, 2 D^2."""
        return 2.0 * self.width**2

    def param_groups(self) -> list[ParamGroup]:
        """No decay for dt, A and B, and a lower learning rate; C is as all else."""
        dynamics = (self.log_dt, self.log_decay, self.frequency, self.B)
        return [
            ParamGroup(
                parameters=dynamics,
                weight_decay=0.0,
                max_learning_rate=DYNAMICS_MAX_LEARNING_RATE,
            )
        ]


class S5(Residual):
    """S5: one diagonal state space for all channels together, run by a parallel scan.

    State: per layer h (B, n, 2), real and imaginary parts.
    """

    def __init__(
        self,
        width: int,
        *,
        layers: int = 2,
        state: int = 64,
        init_blocks: int = 1,
        dt_min: float = 1e-3,
        dt_max: float = 1e-1,
        mlp_ratio: float = 0.0,
        dropout: float = 0.0,
    ) -> None:
        check_at_least("layers", layers, 1)
        check_at_least("state", state, 2)
        check_at_least("init_blocks", init_blocks, 1)
        if state % (2 * init_blocks):
            raise ValueError(
                f"state must be a multiple of {2 * init_blocks} (conjugate pairs in each of "
                f"{init_blocks} blocks), not {state}"
            )
        check_time_steps(dt_min, dt_max)
        mixers = [
            S5Layer(
                width,
                n_state=state,
                n_blocks=init_blocks,
                dt_min=dt_min,
                dt_max=dt_max,
                dropout=dropout,
            )
            for _ in range(layers)
        ]
        super().__init__(width, mixers, mlp_ratio=mlp_ratio, dropout=dropout)
