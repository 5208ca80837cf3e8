"""The comparing of loops and peers notices a wrong output, gradient or state."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.agreement import agree_with_carried_loop, agree_with_gradients, agree_with_loop, normal

SLIGHT = 1e-9  # a hundred times what is let pass


class Decays(nn.Module):
    """h_t = a h_{t-1} + x_t, y = h: x (B, T, D), state (B, D)."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Parameter(normal(6, seed=7))

    def forward(self, x: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return loop(self, x, torch.zeros_like(x[:, 0]) if state is None else state)


def loop(mixer: Any, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
    outputs = []
    for x_t in x.unbind(1):
        state = mixer.a * state + x_t
        outputs.append(state)
    return torch.stack(outputs, dim=1), state


def wrong_output(mixer: Any, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
    y, h = loop(mixer, x, state)
    return y + SLIGHT * y.detach().abs().max(), h


def wrong_state(mixer: Any, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
    y, h = loop(mixer, x, state)
    return y, h * (1 + SLIGHT)


def wrong_gradient(mixer: Any, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
    y, h = loop(mixer, x, state)
    return y + SLIGHT * (y - y.detach()), h


def state_without_gradient(mixer: Any, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
    y, h = loop(mixer, x, state.detach())
    return y + 0.0 * state.unsqueeze(1), h


def test_what_is_equal_agrees() -> None:
    agree_with_carried_loop(Decays(), loop, normal(3, 6))
    agree_with_loop(Decays(), lambda mixer, x: mixer(x)[0], normal(3, 5, 6))


@pytest.mark.parametrize(
    "wrong", [wrong_output, wrong_state, wrong_gradient, state_without_gradient]
)
def test_what_differs_slightly_does_not_agree(wrong: Any) -> None:
    with pytest.raises(AssertionError):
        agree_with_carried_loop(Decays(), wrong, normal(3, 6))


@pytest.mark.parametrize("wrong", [wrong_output, wrong_gradient])
def test_a_loop_without_state_is_held_to_the_same(wrong: Any) -> None:
    nothing = torch.zeros(3, 6, dtype=torch.float64)
    with pytest.raises(AssertionError):
        agree_with_loop(Decays(), lambda mixer, x: wrong(mixer, x, nothing)[0], normal(3, 5, 6))
    x = normal(3, 5, 6).requires_grad_()
    with pytest.raises(AssertionError):
        agree_with_gradients((lambda x: x, lambda x: x + SLIGHT * x), [x])
