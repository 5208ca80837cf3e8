"""Gated recurrent unit in the residual backbone: Cho et al. 2014,
https://arxiv.org/abs/1406.1078, equations 5 to 8.

    r, z = sigmoid(W x_t + U h_{t-1} + b)
    h_t = z h_{t-1} + (1 - z) tanh(W x_t + r (U h_{t-1} + b))

torch resets after the product, r (U h), where equation 8 has U (r h).
"""

from __future__ import annotations

from typing import Literal

from architectures.layers.checks import check_at_least
from architectures.layers.recurrent import RecurrentStack
from architectures.layers.residual import Residual


class Gru(Residual):
    """GRU cells in the residual backbone, one a layer.

    State: per layer h (B, 1, D).
    """

    def __init__(
        self,
        width: int,
        *,
        layers: int = 2,
        mlp_ratio: float = 2.0,
        dropout: float = 0.0,
        init: Literal["default", "orthogonal"] = "default",
        learn_initial_state: bool = False,
    ) -> None:
        check_at_least("layers", layers, 1)
        mixers = [
            RecurrentStack(
                width,
                "gru",
                init=init,
                learn_initial_state=learn_initial_state,
            )
            for _ in range(layers)
        ]
        super().__init__(width, mixers, mlp_ratio=mlp_ratio, dropout=dropout)
