"""S5 against the loop of its paper, in float64."""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import gelu

from architectures.layers.hippo import legs_normal_part
from tests.agreement import SINGLE, agree_with_carried_loop, build, close, mixer_of, normal


def s5_by_loop(mixer: Any, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
    """Smith et al. 2023, section 3: both halves of the conjugate pairs, zero-order hold."""
    half = torch.complex(-mixer.log_decay.exp(), mixer.frequency)
    A = torch.cat([half, half.conj()])
    B, C = (torch.complex(weight[..., 0], weight[..., 1]) for weight in (mixer.B, mixer.C))
    B, C = torch.cat([B, B.conj()]), torch.cat([C, C.conj()], dim=1)
    dt = mixer.log_dt.exp().repeat(2)
    decay = torch.exp(dt * A)
    B = ((decay - 1) / A).unsqueeze(1) * B
    h = torch.complex(state[..., 0], state[..., 1])
    h, outputs = torch.cat([h, h.conj()], dim=1), []
    for x_t in x.unbind(1):
        h = decay * h + x_t.to(B.dtype) @ B.t()
        outputs.append((h @ C.t()).real + mixer.D * x_t)
    activated = gelu(torch.stack(outputs, dim=1))
    h = h[:, : len(half)]
    return activated * mixer.gate(activated).sigmoid(), torch.stack([h.real, h.imag], dim=2)


@pytest.mark.parametrize(("state", "blocks"), [(2, 1), (12, 1), (12, 3)])
def test_s5_equals_the_papers_loop(state: int, blocks: int) -> None:
    mixer = mixer_of("s5", state=state, init_blocks=blocks)
    agree_with_carried_loop(mixer, s5_by_loop, normal(3, state // 2, 2, seed=4))


def test_s5_begins_with_hippos_normal_part_in_each_block() -> None:
    mixer = build("s5", 6, layers=1, state=24, init_blocks=3).blocks[0].mixer
    frequencies, _ = legs_normal_part(8)
    close(mixer.frequency, frequencies.repeat(3), SINGLE)
    close(mixer.log_decay.exp(), torch.full((12,), 0.5).double(), SINGLE)
    dt = mixer.log_dt.exp()
    assert 0.999e-3 < dt.min() < dt.max() < 1.001e-1


def test_s5_begins_with_the_map_of_real_matrices() -> None:
    """B and C are drawn real, of variance 1 / D and 1 / N, and then change basis."""
    mixer = build("s5", 40, layers=1, state=64).blocks[0].mixer
    torch.manual_seed(0)  # as build does
    drawn_B, drawn_C = torch.randn(64, 40) / 40**0.5, torch.randn(40, 64) / 64**0.5
    B, C = (torch.complex(weight[..., 0], weight[..., 1]) for weight in (mixer.B, mixer.C))
    _, V = legs_normal_part(64)
    close(2 * (V @ B).real, drawn_B.double(), SINGLE)
    close(2 * (C @ V.mH).real, drawn_C.double(), SINGLE)


def test_s5_trains_its_dynamics_slowly_and_without_decay() -> None:
    body = build("s5", 6, layers=1)
    (group,) = body.param_groups()
    mixer = body.blocks[0].mixer
    expected = [mixer.log_dt, mixer.log_decay, mixer.frequency, mixer.B]
    assert [id(p) for p in group.parameters] == [id(p) for p in expected]
    assert (group.weight_decay, group.max_learning_rate) == (0.0, 1e-3)
