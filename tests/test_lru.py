"""The linear recurrent unit against the loop of its paper, in float64."""

from typing import Any

import pytest
import torch
from torch import Tensor

from tests.agreement import SINGLE, agree_with_carried_loop, build, close, gated, mixer_of, normal


def lru_by_loop(mixer: Any, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
    """Orvieto et al. 2023, appendix A: its complex matrices, token by token."""
    decay = torch.exp(torch.complex(-mixer.nu.exp(), mixer.theta.exp()))
    B = torch.complex(mixer.B[..., 0], mixer.B[..., 1]) * mixer.gamma_log.exp().unsqueeze(1)
    C = torch.complex(mixer.C[..., 0], mixer.C[..., 1])
    h, outputs = torch.complex(state[..., 0], state[..., 1]), []
    for x_t in x.unbind(1):
        h = decay * h + x_t.to(B.dtype) @ B.t()
        outputs.append((h @ C.t()).real + mixer.D * x_t)
    return gated(torch.stack(outputs, dim=1), mixer.mix), torch.stack([h.real, h.imag], dim=2)


def test_lru_equals_the_papers_loop() -> None:
    agree_with_carried_loop(
        mixer_of("lru", state=5, r_min=0.5), lru_by_loop, normal(3, 5, 2, seed=4)
    )


def test_lru_begins_uniform_on_the_ring_with_normalised_input() -> None:
    mixer = (
        build("lru", 6, layers=1, state=4000, r_min=0.4, r_max=0.9, max_phase=1.5).blocks[0].mixer
    )
    decay, _, _ = mixer.discretise()
    assert 0.4 - SINGLE < decay.abs().min() < decay.abs().max() < 0.9 + SINGLE
    assert 0 < decay.angle().min() < 0.01
    assert 1.49 < decay.angle().max() < 1.5
    # Uniform on the area: the mean of |lambda|^2 is that of the bounds; 4 standard errors.
    assert decay.abs().square().mean().item() == pytest.approx((0.16 + 0.81) / 2, abs=0.012)
    # Section 3.4: the states of white inputs then have the inputs' variance.
    close(mixer.gamma_log.exp().square(), 1 - decay.abs().square(), SINGLE)


def test_lru_is_stable_whatever_its_parameters() -> None:
    mixer = mixer_of("lru", state=5)
    with torch.no_grad():
        mixer.nu.copy_(torch.tensor([-20.0, -3.0, 0.0, 3.0, 20.0]))
    assert mixer.discretise()[0].abs().max() < 1


def test_lru_trains_its_recurrence_slowly_and_without_decay() -> None:
    body = build("lru", 6, layers=1)
    (group,) = body.param_groups()
    mixer = body.blocks[0].mixer
    expected = [mixer.nu, mixer.theta, mixer.gamma_log, mixer.B]
    assert [id(p) for p in group.parameters] == [id(p) for p in expected]
    assert (group.weight_decay, group.learning_rate_scale) == (0.0, 0.25)
