"""Recurrences whose gates read the input alone: minGRU and minLSTM are two choices of gates.

    h_t = keep_t h_{t-1} + written_t        (keep and written from Linear(x_t))

Since no gate reads h, this is a linear recurrence in h and is scanned (kernels/linear_scan.py).

B batch, T time, D width, E hidden width (expand D).
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import relu

from architectures.body import Body, State
from architectures.kernels.linear_scan import (
    last_state,
    linear_scan,
    linear_scan_flops_per_token,
)
from architectures.layers.checks import check_at_least, check_choice


class GatedRecurrence(Body):
    """One layer; with expand > 1, projected back to D. State: h (B, E)."""

    n_projections: int  # of the input: the gates and the candidate

    def __init__(
        self, width: int, *, expand: int = 1, candidate: Literal["linear", "positive"] = "linear"
    ) -> None:
        super().__init__(width)
        check_at_least("expand", expand, 1)
        check_choice("candidate", candidate, ("linear", "positive"))
        hidden = expand * width
        self.candidate = candidate
        self.project_in = nn.Linear(width, self.n_projections * hidden)
        self.project_out = nn.Linear(hidden, width) if expand > 1 else None

    def gate(self, projected: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
        """From the projections (..., E) to keep and written, (..., E) both."""
        raise NotImplementedError

    def candidate_of(self, projected: Tensor) -> Tensor:
        """The candidate state, as it is or made positive by the paper's g (appendix B)."""
        if self.candidate == "linear":
            return projected
        # x + 1/2 above 0 and sigmoid(x) below, without a branch.
        return relu(projected) + projected.clamp(max=0).sigmoid()

    def forward(
        self, x: Tensor, state: State = None, *, lengths: Tensor | None = None
    ) -> tuple[Tensor, State]:
        """Map x (B, T, D) to y (B, T, D)."""
        self.check_call(x, state, lengths)
        keep, written = self._read(x)  # each (B, T, E)
        states = linear_scan(keep, written, state)  # (B, T, E)
        return self._write(states.to(x.dtype)), last_state(states, lengths)

    def step(self, x_t: Tensor, state: State = None) -> tuple[Tensor, State]:
        """Map one token x_t (B, D) to y_t (B, D) by the recurrence."""
        self.check_call(x_t.unsqueeze(1), state, None)
        keep, h = self._read(x_t)  # each (B, E)
        if state is not None:
            h = torch.addcmul(h, keep, state)
        return self._write(h.to(x_t.dtype)), h

    def _read(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Keep and written of x (..., D): (..., E) both, at least float32 as the state is."""
        projected = self.project_in(x)
        projected = projected.to(self._scan_dtype())
        return self.gate(projected.chunk(self.n_projections, dim=-1))

    def _scan_dtype(self) -> torch.dtype:
        return torch.promote_types(self.project_in.weight.dtype, torch.float32)

    def _write(self, h: Tensor) -> Tensor:
        """Map h (..., E) to y (..., D)."""
        return h if self.project_out is None else self.project_out(h)

    def flops_per_token(self, length: int) -> float:
        """The projections and the scan."""
        products = 2.0 * self.project_in.weight.numel()
        hidden = self.width
        if self.project_out is not None:
            hidden = self.project_out.in_features
            products += 2.0 * self.project_out.weight.numel()
        return products + linear_scan_flops_per_token(hidden)
