"""S4, structured state spaces: Gu et al. 2022, https://arxiv.org/abs/2111.00396, sections 2 and 3.

    h' = A h + B u,  y = C h + D u              (equation 1, for each channel)
    A = diag(L) - P P*                          (theorem 1, in the basis of V)

Trained as a convolution whose kernel comes from its generating function (theorem 3), streamed as
the bilinear recurrence (equation 3, theorem 2); see kernels/dplr_kernel.py.

Initialisation: HiPPO-LegS (equation 2) in the basis V of the eigenvectors of its normal part, P
and B with it (layers/hippo.py; the authors' code has since clipped Im B to 2). C complex normal, D
normal, dt log-uniform in [1e-3, 1e-1], as their code (state-spaces/s4, models/s4/s4.py).
dt, A, P and B do not decay and learn at 1e-3 at most (appendix D.2); the text there names C too,
but in the code C learns and decays as all else, and so it does here.
The low-rank part is - P P*, where theorem 1 has - P Q*: with the real part of L negative, A is
stable whatever the training does (Goel et al. 2022, https://arxiv.org/abs/2202.09729, section 4.2).
Parameters are stored as real numbers, so that .double() reaches all of them.

B batch, T time, H = D width, N real states of each channel, n = N/2 complex ones.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, glu

from architectures.body import Body, ParamGroup, State, real_positions
from architectures.kernels.dplr_kernel import (
    StateSpace,
    discrete_powers,
    dplr_chunk_starts,
    dplr_final_state,
    dplr_kernel,
    dplr_output_of_state,
    dplr_state_after,
    dplr_state_flops_per_token,
    dplr_step,
)
from architectures.kernels.fft_convolution import (
    fft_convolution,
    fft_convolution_flops_per_token,
)
from architectures.layers.checks import check_at_least, check_conjugate_pairs, check_time_steps
from architectures.layers.hippo import legs_input, legs_low_rank, legs_normal_part
from architectures.layers.residual import Residual

DYNAMICS_MAX_LEARNING_RATE = 1e-3  # of dt, A, P and B: appendix D.2


class S4Layer(Body):
    """State space, GELU, and a gated linear unit that mixes channels. State: h (B, H, n, 2)."""

    def __init__(
        self, width: int, *, n_state: int, dt_min: float, dt_max: float, dropout: float
    ) -> None:
        super().__init__(width)
        frequency, V = legs_normal_part(n_state)
        log_dt = torch.empty(width).uniform_(math.log(dt_min), math.log(dt_max))
        P, B = (V.mH @ vector(n_state).to(V.dtype) for vector in (legs_low_rank, legs_input))
        self.log_dt = nn.Parameter(log_dt)  # (H,)
        self.log_decay = nn.Parameter(torch.full((width, n_state // 2), math.log(0.5)))  # (H, n)
        self.frequency = nn.Parameter(frequency.float().repeat(width, 1))  # (H, n)
        self.P = nn.Parameter(torch.view_as_real(P).float().repeat(width, 1, 1))  # (H, n, 2)
        self.B = nn.Parameter(torch.view_as_real(B).float().repeat(width, 1, 1))  # (H, n, 2)
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
        # Autocast would round the products by which the transition's powers are made.
        with torch.autocast(x.device.type, enabled=False):
            space = self._state_space()
            u = x.to(space.dt.dtype).transpose(1, 2).contiguous()  # (B, H, T)
            y, after = self._convolve(space, u, state, lengths)
            y = (y + u * self.D.unsqueeze(1)).transpose(1, 2)  # (B, T, D)
        return self._mix_channels(y.to(x.dtype)), after.unflatten(2, (-1, 2))

    def _convolve(
        self, space: StateSpace, u: Tensor, state: Tensor | None, lengths: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """From u (B, H, T) to y (B, H, T) and the state after it, real (B, H, N)."""
        n_rows, _, length = u.shape
        powers = discrete_powers(space, length)
        y = fft_convolution(u, dplr_kernel(space, powers, length))
        after = dplr_final_state(powers, u, lengths)
        if state is None:
            return y, after
        starts = dplr_chunk_starts(powers, state.flatten(2))  # (B, H, S + 1, N)
        n_tokens = lengths
        if n_tokens is None:
            n_tokens = torch.full((n_rows,), length, device=u.device)
        y = y + dplr_output_of_state(powers, starts, length)
        return y, after + dplr_state_after(powers, starts, n_tokens.to(u.device))

    def step(self, x_t: Tensor, state: State = None) -> tuple[Tensor, State]:
        """Map one token x_t (B, D) to y_t (B, D) by the recurrence, in N operations a channel."""
        self.check_call(x_t.unsqueeze(1), state, None)
        space = self._state_space()
        u = x_t.to(space.dt.dtype)
        before = None if state is None else torch.view_as_complex(state)  # (B, H, n)
        y, after = dplr_step(space, u, before)
        y = y + u * self.D
        return self._mix_channels(y.to(x_t.dtype)), torch.view_as_real(after)

    def _state_space(self) -> StateSpace:
        """The continuous system, at least of complex64."""
        dtype = torch.promote_types(self.C.dtype, torch.float32)
        P, B, C = (torch.view_as_complex(part.to(dtype)) for part in (self.P, self.B, self.C))
        return StateSpace(
            L=torch.complex(-self.log_decay.to(dtype).exp(), self.frequency.to(dtype)),
            P=P,
            B=B,
            C=C,
            dt=self.log_dt.to(dtype).exp().unsqueeze(1),
        )

    def _mix_channels(self, y: Tensor) -> Tensor:
        """GELU, then a gated linear unit, on (..., D)."""
        return glu(self.mix(self.dropout(gelu(y))), dim=-1)

    def flops_per_token(self, length: int) -> float:
        """The convolution, the final state, and the gated unit, 4 D^2.

        The kernel and the powers are made once for the whole batch and are not counted.
        """
        per_channel = fft_convolution_flops_per_token(length)
        per_channel += dplr_state_flops_per_token(length, self.C[0].numel())
        return self.width * (per_channel + 4.0 * self.width)

    def param_groups(self) -> list[ParamGroup]:
        """No decay for dt, A, P and B, and a lower learning rate."""
        dynamics = (self.log_dt, self.log_decay, self.frequency, self.P, self.B)
        return [
            ParamGroup(
                parameters=dynamics,
                weight_decay=0.0,
                max_learning_rate=DYNAMICS_MAX_LEARNING_RATE,
            )
        ]


class S4(Residual):
    """S4: diagonal plus low-rank state spaces from HiPPO, run by FFT, streamed as a recurrence.

    State: per layer h (B, D, n, 2), real and imaginary parts.
    """

    def __init__(
        self,
        width: int,
        *,
        layers: int = 2,
        state: int = 64,
        dt_min: float = 1e-3,
        dt_max: float = 1e-1,
        mlp_ratio: float = 0.0,
        dropout: float = 0.0,
    ) -> None:
        check_at_least("layers", layers, 1)
        check_conjugate_pairs(state)
        check_time_steps(dt_min, dt_max)
        mixers = [
            S4Layer(width, n_state=state, dt_min=dt_min, dt_max=dt_max, dropout=dropout)
            for _ in range(layers)
        ]
        super().__init__(width, mixers, mlp_ratio=mlp_ratio, dropout=dropout)
