"""The recurrent network of rectified units against the loop of its paper."""

from typing import Any

import pytest
import torch
from torch import Tensor

from tests.agreement import build, close, normal


def test_irnn_is_the_papers_loop_from_the_identity() -> None:
    mixer = build("irnn", 6, layers=1).blocks[0].mixer
    cell = mixer.recurrence
    assert torch.equal(cell.weight_hh_l0, torch.eye(6).double())
    assert not cell.bias_hh_l0.any()
    assert not cell.bias_ih_l0.any()
    drawn = build("irnn", 100, layers=1).blocks[0].mixer.recurrence.weight_ih_l0
    assert drawn.std().item() == pytest.approx(1e-3, rel=0.05)

    def loop(mixer: Any, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        h, outputs = state[:, 0], []
        for x_t in x.unbind(1):
            h = torch.relu(x_t @ cell.weight_ih_l0.t() + h @ cell.weight_hh_l0.t())
            outputs.append(h)
        return torch.stack(outputs, dim=1), h.unsqueeze(1)

    x, state = normal(3, 9, 6), normal(3, 1, 6, seed=1).abs()
    for actual, expected in zip(mixer(x, state), loop(mixer, x, state), strict=True):
        close(actual, expected)
