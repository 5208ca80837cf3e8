"""Gated recurrent unit, stacked as in the literature: Cho et al. 2014,
https://arxiv.org/abs/1406.1078, equations 5 to 8.

    r, z = sigmoid(W x_t + U h_{t-1} + b)
    h_t = z h_{t-1} + (1 - z) tanh(W x_t + r (U h_{t-1} + b))

torch resets after the product, r (U h), where equation 8 has U (r h).
"""

from __future__ import annotations

from typing import Literal

from architectures.layers.recurrent import RecurrentStack


class GruStack(RecurrentStack):
    """GRU as in the literature: L stacked layers, no residual, no norm.

    State: h (B, L, D).
    """

    def __init__(
        self,
        width: int,
        *,
        layers: int = 2,
        dropout: float = 0.0,
        init: Literal["default", "orthogonal"] = "default",
        learn_initial_state: bool = False,
    ) -> None:
        super().__init__(
            width,
            "gru",
            layers=layers,
            dropout=dropout,
            init=init,
            learn_initial_state=learn_initial_state,
        )
