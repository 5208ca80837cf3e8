"""Gated DeltaNet against a loop of its equations, and against transformers' Qwen3-Next."""

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import silu, softplus

from tests.agreement import (
    SINGLE,
    agree_with_gradients,
    agree_with_loop,
    convolved,
    normal,
    perturbed,
)
from tests.matrix_scans import gated_delta_by_loop


def gated_deltanet_by_loop(mixer: Any, x: Tensor) -> Tensor:
    projected = x @ mixer.project_in.weight.t()
    qkv, gate, dt, beta = projected.split([64, 32, 4, 4], dim=2)
    qkv = silu(convolved(qkv, mixer.conv_weight, None))
    q, k, v = (part.unflatten(2, (4, -1)) for part in qkv.split([16, 16, 32], dim=2))
    q, k = (part / (part.square().sum(3, keepdim=True) + 1e-6).sqrt() for part in (q, k))
    log_decay = -mixer.A_log.exp() * softplus(dt + mixer.dt_bias)
    state = torch.zeros(len(x), 4, 4, 8, dtype=x.dtype)
    y, _ = gated_delta_by_loop(q / 2.0, k, v, beta.sigmoid(), log_decay, state)
    y = mixer.norm_weight * y / (y.square().mean(3, keepdim=True) + 1e-6).sqrt()
    return (y.flatten(2) * silu(gate)) @ mixer.project_out.weight.t()


def test_gated_deltanet_is_the_loop_of_its_equations() -> None:
    mixer = perturbed("gated_deltanet").blocks[0].mixer
    agree_with_loop(mixer, gated_deltanet_by_loop, normal(2, 37, 16))


def test_gated_deltanet_equals_transformers_qwen3_next() -> None:
    from transformers import Qwen3NextConfig
    from transformers.models.qwen3_next.modeling_qwen3_next import Qwen3NextGatedDeltaNet

    config = Qwen3NextConfig(
        vocab_size=8,
        hidden_size=16,
        linear_num_value_heads=4,
        linear_num_key_heads=4,
        linear_key_head_dim=4,
        linear_value_head_dim=8,
        num_hidden_layers=1,
    )
    mixer = perturbed("gated_deltanet").blocks[0].mixer
    peer = Qwen3NextGatedDeltaNet(config, 0).double()
    qkv, gate, dt, beta = mixer.project_in.weight.split([64, 32, 4, 4])
    # There the rows of one head lie together.
    parts = [*qkv.split([16, 16, 32]), gate]
    by_head = torch.cat([part.unflatten(0, (4, -1)) for part in parts], dim=1).flatten(0, 1)
    weights = {
        "in_proj_qkvz.weight": by_head,
        "in_proj_ba.weight": torch.stack([beta, dt], dim=1).flatten(0, 1),
        "conv1d.weight": mixer.conv_weight.unsqueeze(1),
        "norm.weight": mixer.norm_weight,
        "out_proj.weight": mixer.project_out.weight,
        "dt_bias": mixer.dt_bias,
        "A_log": mixer.A_log,
    }
    peer.load_state_dict(weights)
    x = normal(3, 37, 16).requires_grad_()
    agree_with_gradients((lambda x: mixer(x)[0], peer), [x], SINGLE)
