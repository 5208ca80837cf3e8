"""Diagonal complex recurrences with many inputs and outputs: what LRU and S5 have in common.

    h_t = decay h_{t-1} + B x_t,   y_t = Re(C h_t) + D x_t       (h complex, D diagonal)

Parameters are stored as real numbers, so that .double() reaches all of them. Products with B and C
are of real matrices, Re and Im side by side; the recurrence is at least of complex64.

B batch, T time, D width, N complex states.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from architectures.body import Body, State
from architectures.kernels.linear_scan import (
    last_state,
    linear_scan,
    linear_scan_flops_per_token,
)


class DiagonalRecurrence(Body):
    """One layer. State: h (B, N, 2), real and imaginary parts.

    A subclass gives `discretise`, `mix_channels` and their operations, and sets D (D,).
    """

    D: nn.Parameter
    n_state: int  # complex states

    def discretise(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return decay (N,), B (N, D) and C (D, N), complex, at least complex64."""
        raise NotImplementedError

    def mix_channels(self, y: Tensor) -> Tensor:
        """The nonlinear output map of the paper's block, on (..., D)."""
        raise NotImplementedError

    def mixing_flops_per_token(self) -> float:
        """Operations of `mix_channels`."""
        raise NotImplementedError

    def forward(
        self, x: Tensor, state: State = None, *, lengths: Tensor | None = None
    ) -> tuple[Tensor, State]:
        """Map x (B, T, D) to y (B, T, D)."""
        self.check_call(x, state, lengths)
        decay, B, C = self.discretise()
        written = complex_product(x, B)  # (B, T, N)
        before = None if state is None else torch.view_as_complex(state)  # (B, N)
        states = linear_scan(decay.view(1, 1, -1), written, before)  # (B, T, N)
        y = real_product(states, C).to(x.dtype) + x * self.D
        return self.mix_channels(y), torch.view_as_real(last_state(states, lengths))

    def step(self, x_t: Tensor, state: State = None) -> tuple[Tensor, State]:
        """Map one token x_t (B, D) to y_t (B, D) by the recurrence."""
        self.check_call(x_t.unsqueeze(1), state, None)
        decay, B, C = self.discretise()
        h = complex_product(x_t, B)  # (B, N)
        if state is not None:
            h = torch.addcmul(h, decay, torch.view_as_complex(state))
        y = real_product(h, C).to(x_t.dtype) + x_t * self.D
        return self.mix_channels(y), torch.view_as_real(h)

    def flops_per_token(self, length: int) -> float:
        """B x and Re(C h), 4 N D each, the scan, and the mixing of channels."""
        products = 8.0 * self.n_state * self.width
        scan = linear_scan_flops_per_token(self.n_state, is_complex=True)
        return products + scan + self.mixing_flops_per_token()


def complex_product(x: Tensor, weight: Tensor) -> Tensor:
    """Multiply a real x (..., D) by a complex weight (N, D): complex (..., N)."""
    n_state, width = weight.shape
    rows = torch.view_as_real(weight).transpose(1, 2).reshape(2 * n_state, width)  # Re, Im, Re, ..
    # Parameters may have a lower dtype than the recurrence, and autocast lowers the product.
    product = linear(x.to(rows.dtype), rows).to(rows.dtype)  # (..., 2N)
    return torch.view_as_complex(product.unflatten(-1, (n_state, 2)))


def real_product(h: Tensor, weight: Tensor) -> Tensor:
    """Re(weight h) of complex h (..., N) and weight (D, N): real (..., D)."""
    # Re(c h) = Re c Re h - Im c Im h: the scalar product with conj(c), as real vectors.
    columns = torch.view_as_real(weight.conj().resolve_conj()).flatten(1)  # (D, 2N)
    return linear(torch.view_as_real(h).flatten(-2), columns)
