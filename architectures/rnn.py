"""Simple recurrent network in the residual backbone: Elman 1990,
https://doi.org/10.1207/s15516709cog1402_1.

    h_t = nonlinearity(W x_t + U h_{t-1} + b)

Identity initialisation with relu is the IRNN: Le et al. 2015, https://arxiv.org/abs/1504.00941.
"""

from __future__ import annotations

from typing import Literal

from architectures.layers.checks import check_at_least
from architectures.layers.recurrent import RecurrentStack
from architectures.layers.residual import Residual


class Rnn(Residual):
    """Simple (Elman) RNN cells in the residual backbone, one a layer.

    State: per layer h (B, 1, D).
    """

    def __init__(
        self,
        width: int,
        *,
        layers: int = 2,
        mlp_ratio: float = 2.0,
        dropout: float = 0.0,
        init: Literal["default", "orthogonal", "identity"] = "default",
        nonlinearity: Literal["tanh", "relu"] = "tanh",
        learn_initial_state: bool = False,
    ) -> None:
        check_at_least("layers", layers, 1)
        mixers = [
            RecurrentStack(
                width,
                "rnn",
                init=init,
                nonlinearity=nonlinearity,
                learn_initial_state=learn_initial_state,
            )
            for _ in range(layers)
        ]
        super().__init__(width, mixers, mlp_ratio=mlp_ratio, dropout=dropout)
