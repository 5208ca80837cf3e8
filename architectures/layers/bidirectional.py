"""Two bodies, one reading forwards and one backwards: Schuster and Paliwal 1997,
https://doi.org/10.1109/78.650093, section III.

B batch, T time, D width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from architectures.body import Body, State


class BidirectionalPair(Body):
    """y = W [forward_body(x), backward_body(reversed x) reversed back] + b, a linear map 2D -> D.

    State: the pair of final states. There is no incoming state: the backward body would have to
    know the future.
    """

    causal = False

    def __init__(self, forward_body: Body, backward_body: Body) -> None:
        super().__init__(forward_body.width)
        if backward_body.width != forward_body.width:
            raise ValueError(
                f"the directions have widths {forward_body.width} and {backward_body.width}; "
                "give both the same"
            )
        if not (forward_body.causal and backward_body.causal):
            raise ValueError("a direction already reads both ways: give two causal bodies")
        self.state_grows = forward_body.state_grows or backward_body.state_grows
        self.forward_body = forward_body
        self.backward_body = backward_body
        self.merge = nn.Linear(2 * self.width, self.width)

    def forward(
        self, x: Tensor, state: State = None, *, lengths: Tensor | None = None
    ) -> tuple[Tensor, State]:
        """Map x (B, T, D) to y (B, T, D)."""
        refuse_state(state)
        self.check_call(x, None, lengths)
        ahead, ahead_state = self.forward_body(x, lengths=lengths)
        back, back_state = self.backward_body(reverse(x, lengths), lengths=lengths)
        y = self.merge(torch.cat([ahead, reverse(back, lengths)], dim=2))  # (B, T, D)
        return y, (ahead_state, back_state)

    def flops_per_token(self, length: int) -> float:
        """Both directions and the linear map."""
        both = sum(body.flops_per_token(length) for body in self.inner_bodies())
        return both + 4.0 * self.width**2


def refuse_state(state: State) -> None:
    """Raise ValueError if a body that reads both ways is given a state."""
    if state is not None:
        raise ValueError(
            "a bidirectional body cannot stream: it takes no incoming state, "
            "so pass the whole sequence at once"
        )


def reverse(x: Tensor, lengths: Tensor | None) -> Tensor:
    """Reverse the real tokens of each row of x (B, T, D); padding stays where it is."""
    if lengths is None:
        return x.flip(1)
    time = torch.arange(x.shape[1], device=x.device)  # (T,)
    mirrored = lengths.unsqueeze(1) - 1 - time  # (B, T), negative at the padding
    source = torch.where(mirrored >= 0, mirrored, time)  # (B, T)
    return x.gather(1, source.unsqueeze(2).expand_as(x))
