"""Long short-term memory, stacked as in the literature: Hochreiter and Schmidhuber 1997,
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

from architectures.layers.recurrent import RecurrentStack


class LstmStack(RecurrentStack):
    """LSTM as in the literature: L stacked layers, no residual, no norm.

    State: the pair (h, c), each (B, L, D).
    """

    def __init__(
        self,
        width: int,
        *,
        layers: int = 2,
        dropout: float = 0.0,
        init: Literal["default", "orthogonal"] = "default",
        forget_bias: float = 1.0,
        learn_initial_state: bool = False,
    ) -> None:
        super().__init__(
            width,
            "lstm",
            layers=layers,
            dropout=dropout,
            init=init,
            forget_bias=forget_bias,
            learn_initial_state=learn_initial_state,
        )
