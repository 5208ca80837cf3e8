"""Long short-term memory in the residual backbone: Hochreiter and Schmidhuber 1997,
https://doi.org/10.1162/neco.1997.9.8.1735, with the forget gate of Gers et al. 2000,
https://doi.org/10.1162/089976600300015015.

    i, f, o = sigmoid(W x_t + U h_{t-1} + b)
    c_t = f c_{t-1} + i tanh(W x_t + U h_{t-1} + b)
    h_t = o tanh(c_t)

The forget bias of 1 is that of Jozefowicz et al. 2015,
https://proceedings.mlr.press/v37/jozefowicz15.html.
"""

from __future__ import annotations

from typing import Literal

from architectures.layers.checks import check_at_least
from architectures.layers.recurrent import RecurrentStack
from architectures.layers.residual import Residual


class Lstm(Residual):
    """LSTM cells in the residual backbone, one a layer.

    State: per layer the pair (h, c), each (B, 1, D).
    """

    def __init__(
        self,
        width: int,
        *,
        layers: int = 2,
        mlp_ratio: float = 2.0,
        dropout: float = 0.0,
        init: Literal["default", "orthogonal"] = "default",
        forget_bias: float = 1.0,
        learn_initial_state: bool = False,
    ) -> None:
        check_at_least("layers", layers, 1)
        mixers = [
            RecurrentStack(
                width,
                "lstm",
                init=init,
                forget_bias=forget_bias,
                learn_initial_state=learn_initial_state,
            )
            for _ in range(layers)
        ]
        super().__init__(width, mixers, mlp_ratio=mlp_ratio, dropout=dropout)
