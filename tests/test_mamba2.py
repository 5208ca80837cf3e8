"""Mamba-2 against a loop of its equations."""

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import silu, softplus

from tests.agreement import agree_with_loop, convolved, normal, perturbed


def mamba2_by_loop(mixer: Any, x: Tensor) -> Tensor:
    projected = x @ mixer.in_proj.weight.t()
    gate, rest, dt = projected.split([32, 32 + 2 * 5, 4], dim=2)
    rest = silu(convolved(rest, mixer.conv_weight, mixer.conv_bias))
    u, B, C = rest.split([32, 5, 5], dim=2)
    u, dt = u.unflatten(2, (4, 8)), softplus(dt + mixer.dt_bias)
    state, outputs = torch.zeros(len(x), 4, 8, 5, dtype=x.dtype), []
    for t in range(x.shape[1]):
        decay = (-mixer.A_log.exp() * dt[:, t])[..., None, None].exp()
        written = dt[:, t, :, None, None] * u[:, t, :, :, None] * B[:, t, None, None, :]
        state = decay * state + written
        y_t = (state * C[:, t, None, None, :]).sum(3) + mixer.D[:, None] * u[:, t]
        outputs.append(y_t.flatten(1))
    y = torch.stack(outputs, dim=1) * silu(gate)
    y = mixer.norm_weight * y / (y.square().mean(2, keepdim=True) + 1e-5).sqrt()
    return y @ mixer.out_proj.weight.t()


def test_mamba2_is_the_loop_of_its_equations() -> None:
    mixer = perturbed("mamba2", state=5).blocks[0].mixer
    agree_with_loop(mixer, mamba2_by_loop, normal(2, 37, 16))
