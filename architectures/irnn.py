"""IRNN: Le et al. 2015, https://arxiv.org/abs/1504.00941, section 2.

    h_t = relu(W x_t + U h_{t-1} + b)

At first U is the identity, b is 0 and W is normal with standard deviation 0.001: without input the
state stays what it is, and gradients neither vanish nor explode. Nothing bounds it: once the
largest eigenvalue of U is above 1, h grows exponentially: with 1.06, in float64, it overflows
between 12,000 and 16,000 tokens.
"""

from __future__ import annotations

from architectures.rnn import Rnn


class Irnn(Rnn):
    """RNN of rectified linear units whose recurrent matrix is the identity at first.

    State: per layer h (B, 1, D).
    """

    def __init__(
        self,
        width: int,
        *,
        layers: int = 2,
        mlp_ratio: float = 2.0,
        dropout: float = 0.0,
        learn_initial_state: bool = False,
    ) -> None:
        super().__init__(
            width,
            layers=layers,
            mlp_ratio=mlp_ratio,
            dropout=dropout,
            init="identity",
            nonlinearity="relu",
            learn_initial_state=learn_initial_state,
        )
