"""S4D, diagonal state spaces: Gu et al. 2022, https://arxiv.org/abs/2206.11893.

    h' = A h + B u,  y = 2 Re(C h) + D u        (section 3, A diagonal and complex)
    exp(dt A),  (exp(dt A) - 1) / A             (section 3, zero-order hold)
    A_n: eigenvalues of HiPPO-LegS's normal part (section 4, S4D-LegS)
    A_n = -1/2 + i (N/pi) (N / (2n + 1) - 1)    (section 4, S4D-Inv)
    A_n = -1/2 + i pi n                         (section 4, S4D-Lin)

B is 1: only the product of B and C matters. C is complex normal, D normal, dt log-uniform in [1e-3,
1e-1], as in the authors' code (state-spaces/s4, models/s4/s4d.py). Of each conjugate pair one state
is kept. Parameters are stored as real numbers, so that .double() reaches all of them. Complex
numbers and transforms are at least of float32.

B batch, T time, H = D width, N real states of each channel, n = N/2 complex ones.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, glu

from architectures.body import Body, ParamGroup, State, real_positions
from architectures.kernels.fft_convolution import (
    fft_convolution,
    fft_convolution_flops_per_token,
)
from architectures.kernels.s4d_kernel import s4d_final_state, s4d_kernel, s4d_output_of_state
from architectures.layers.checks import (
    check_at_least,
    check_choice,
    check_conjugate_pairs,
    check_time_steps,
)
from architectures.layers.hippo import legs_normal_part
from architectures.layers.residual import Residual

DYNAMICS_MAX_LEARNING_RATE = 1e-3  # of dt and A, as in the authors' code


class S4dLayer(Body):
    """State space, GELU, and a gated linear unit that mixes channels. State: h (B, H, n, 2)."""

    def __init__(
        self, width: int, *, n_state: int, init: str, dt_min: float, dt_max: float, dropout: float
    ) -> None:
        super().__init__(width)
        log_dt = torch.empty(width).uniform_(math.log(dt_min), math.log(dt_max))
        A = initial_spectrum(init, n_state).expand(width, -1)  # (H, n)
        self.log_dt = nn.Parameter(log_dt)  # (H,)
        self.log_decay = nn.Parameter((-A.real).log())  # (H, n); exp keeps A's real part negative
        self.frequency = nn.Parameter(A.imag.clone())  # (H, n)
        # Standard complex normal: variance 1/2 in each part.
        self.C = nn.Parameter(torch.randn(width, n_state // 2, 2) * math.sqrt(0.5))
        self.D = nn.Parameter(torch.randn(width))
        self.dropout = nn.Dropout(dropout)
        self.mix = nn.Linear(width, 2 * width)

    def forward(
        self, x: Tensor, state: State = None, *, lengths: Tensor | None = None
    ) -> tuple[Tensor, State]:
        """Map x (B, T, D) to y (B, T, D)."""
        self.check_call(x, state, lengths)
        if lengths is not None:
            x = x.masked_fill(~real_positions(lengths, x.shape[1]).unsqueeze(2), 0.0)
        length = x.shape[1]
        z, b, C = self._discretise()
        u = x.to(z.real.dtype).transpose(1, 2).contiguous()  # (B, H, T)
        y = fft_convolution(u, s4d_kernel(z, C * b, length))  # (B, H, T)
        before = None if state is None else torch.view_as_complex(state)  # (B, H, n)
        if before is not None:
            y = y + s4d_output_of_state(z, C, before, length)
        after = s4d_final_state(z, b, u, before, lengths)
        y = (y + u * self.D.unsqueeze(1)).transpose(1, 2)  # (B, T, D)
        return self._mix_channels(y.to(x.dtype)), torch.view_as_real(after)

    def step(self, x_t: Tensor, state: State = None) -> tuple[Tensor, State]:
        """Map one token x_t (B, D) to y_t (B, D) by the recurrence."""
        self.check_call(x_t.unsqueeze(1), state, None)
        z, b, C = self._discretise()
        u = x_t.to(z.real.dtype)
        h = b * u.unsqueeze(2)  # (B, H, n)
        if state is not None:
            h = h + z.exp() * torch.view_as_complex(state)
        y = 2 * (C * h).sum(2).real + u * self.D  # (B, H)
        return self._mix_channels(y.to(x_t.dtype)), torch.view_as_real(h)

    def _discretise(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return dt A, the input weight (exp(dt A) - 1) / A and C, complex (H, n) all."""
        dtype = torch.promote_types(self.C.dtype, torch.float32)
        A = torch.complex(-self.log_decay.to(dtype).exp(), self.frequency.to(dtype))
        z = A * self.log_dt.to(dtype).exp().unsqueeze(1)
        return z, torch.expm1(z) / A, torch.view_as_complex(self.C.to(dtype))

    def _mix_channels(self, y: Tensor) -> Tensor:
        """The paper's output: GELU, then a gated linear unit, on (..., D)."""
        return glu(self.mix(self.dropout(gelu(y))), dim=-1)

    def flops_per_token(self, length: int) -> float:
        """The convolution, the final state (4n a channel) and the gated unit, 4 D^2.

        The kernel is made once for the whole batch and is not counted.
        """
        per_channel = fft_convolution_flops_per_token(length) + 2.0 * self.C[0].numel()
        return self.width * (per_channel + 4.0 * self.width)

    def param_groups(self) -> list[ParamGroup]:
        """No decay for dt and A, and a lower learning rate."""
        dynamics = (self.log_dt, self.log_decay, self.frequency)
        return [
            ParamGroup(
                parameters=dynamics,
                weight_decay=0.0,
                max_learning_rate=DYNAMICS_MAX_LEARNING_RATE,
            )
        ]


class S4d(Residual):
    """S4D: diagonal state spaces, run as a convolution by FFT and streamed as a recurrence.

    State: per layer h (B, D, n, 2), real and imaginary parts.
    """

    def __init__(
        self,
        width: int,
        *,
        layers: int = 2,
        state: int = 64,
        init: Literal["legs", "inv", "lin"] = "legs",
        dt_min: float = 1e-3,
        dt_max: float = 1e-1,
        mlp_ratio: float = 0.0,
        dropout: float = 0.0,
    ) -> None:
        check_at_least("layers", layers, 1)
        check_conjugate_pairs(state)
        check_choice("init", init, ("legs", "inv", "lin"))
        check_time_steps(dt_min, dt_max)
        mixers = [
            S4dLayer(width, n_state=state, init=init, dt_min=dt_min, dt_max=dt_max, dropout=dropout)
            for _ in range(layers)
        ]
        super().__init__(width, mixers, mlp_ratio=mlp_ratio, dropout=dropout)


def initial_spectrum(init: str, n_state: int) -> Tensor:
    """A, the half with positive imaginary parts: complex (n,)."""
    index = torch.arange(n_state // 2)
    if init == "lin":
        frequency = math.pi * index
    elif init == "inv":
        frequency = n_state / math.pi * (n_state / (2 * index + 1) - 1)
    else:
        frequency, _ = legs_normal_part(n_state)
    return torch.complex(torch.full((n_state // 2,), -0.5), frequency.float())
