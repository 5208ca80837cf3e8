"""Linear attention against attention with features."""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import elu

from tests.agreement import agree_with_loop, convolved, normal, perturbed


def linear_attention_by_loop(mixer: Any, x: Tensor) -> Tensor:
    """Equation 8: similarity by features in the place of the exponential, each token anew."""
    projected = x @ mixer.project_in.weight.t()
    if mixer.taps > 1:
        projected = convolved(projected, mixer.conv_weight, mixer.conv_bias)
    q, k, v = (part.unflatten(2, (mixer.heads, -1)) for part in projected.chunk(3, dim=2))
    outputs = []
    for t in range(x.shape[1]):
        features = (elu(q[:, t]) + 1).unsqueeze(1) * (elu(k[:, : t + 1]) + 1)
        similarity = features.sum(3, keepdim=True)  # (B, t + 1, H, 1)
        outputs.append((similarity * v[:, : t + 1]).sum(1) / (similarity.sum(1) + 1e-6))
    return torch.stack(outputs, dim=1).flatten(2) @ mixer.project_out.weight.t()


@pytest.mark.parametrize("taps", [1, 4])
def test_linear_attention_is_attention_with_features(taps: int) -> None:
    mixer = perturbed("linear_attention", heads=2, taps=taps).blocks[0].mixer
    agree_with_loop(mixer, linear_attention_by_loop, normal(2, 37, 16))
