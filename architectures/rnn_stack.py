"""Simple recurrent network, stacked as in the literature: Elman 1990,
https://doi.org/10.1207/s15516709cog1402_1.

    h_t = nonlinearity(W x_t + U h_{t-1} + b)

Identity initialisation with relu is the IRNN: Le et al. 2015, https://arxiv.org/abs/1504.00941.
"""

from __future__ import annotations

from typing import Literal

from architectures.layers.recurrent import RecurrentStack


class RnnStack(RecurrentStack):
    """Simple (Elman) RNN as in the literature: L stacked layers, no residual, no norm.

    State: h (B, L, D).
    """

    def __init__(
        self,
        width: int,
        *,
        layers: int = 2,
        dropout: float = 0.0,
        init: Literal["default", "orthogonal", "identity"] = "default",
        nonlinearity: Literal["tanh", "relu"] = "tanh",
        learn_initial_state: bool = False,
    ) -> None:
        super().__init__(
            width,
            "rnn",
            layers=layers,
            dropout=dropout,
            init=init,
            nonlinearity=nonlinearity,
            learn_initial_state=learn_initial_state,
        )
