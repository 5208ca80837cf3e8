"""Bidirectional LSTM, stacked as in the literature: Graves and Schmidhuber 2005,
https://doi.org/10.1016/j.neunet.2005.06.042, section 2.

Each direction has half the width; every layer reads both directions of the layer below.
"""

from __future__ import annotations

from typing import Any, Literal

from architectures.layers.recurrent import RecurrentStack


class BilstmStack(RecurrentStack):
    """Bidirectional LSTM as in the literature: L stacked layers, half the width each way.

    State: the pair (h, c), each (B, 2L, D/2), final states only: it cannot be carried on.
    """

    causal = False

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
            bidirectional=True,
        )

    @classmethod
    def width_multiple(cls, **options: Any) -> int:
        """Two directions share the width."""
        return 2
