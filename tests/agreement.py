"""Bodies and mixers against loops over tokens and against peers, outputs and all gradients."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import conv1d, gelu, pad

from architectures import ARCHITECTURES

EXACT = 1e-11  # float64, sums of a hundred terms in another order
SINGLE = 1e-5  # the same in float32, of which transformers computes its scans whatever the dtype


def normal(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, dtype=dtype, generator=generator)


def close(actual: Tensor, expected: Tensor, tolerance: float = EXACT) -> None:
    torch.testing.assert_close(actual, expected, rtol=tolerance, atol=tolerance)


def close_to_largest(actual: Tensor, expected: Tensor, tolerance: float) -> None:
    """Within the tolerance, relative to the largest value expected."""
    atol = tolerance * expected.abs().max().item()
    torch.testing.assert_close(actual, expected, rtol=tolerance, atol=atol)


def build(name: str, width: int = 16, **options: Any) -> Any:
    """A body in float64, its parameters as they are drawn from seed 0."""
    architecture: Any = ARCHITECTURES[name]
    torch.manual_seed(0)
    return architecture(width, **options).double()


def perturbed(name: str, width: int = 16, **options: Any) -> Any:
    """A body in float64 with noise on its parameters: what begins at 0 or 1 would hide errors."""
    body = build(name, width, **options)
    with torch.no_grad():
        for index, parameter in enumerate(body.parameters()):
            parameter.add_(0.1 * normal(*parameter.shape, seed=index))
    return body


def mixer_of(name: str, **options: Any) -> Any:
    """The first mixer of a body of width 6 with noise on its parameters."""
    return perturbed(name, 6, layers=1, **options).blocks[0].mixer


def agree_with_gradients(
    functions: tuple[Callable[..., Any], Callable[..., Any]],
    inputs: list[Tensor],
    tolerance: float = EXACT,
) -> None:
    """Two functions have the same outputs, and the same gradients by all inputs."""
    results = []
    for function in functions:
        outputs = [function(*inputs)]
        if isinstance(outputs[0], tuple):
            outputs = list(outputs[0])
        cotangents = [normal(*y.shape, seed=100 + i) for i, y in enumerate(outputs)]
        loss = sum((y * c).sum() for y, c in zip(outputs, cotangents, strict=True))
        results.append([*outputs, *torch.autograd.grad(loss, inputs)])
    for actual, expected in zip(*results, strict=True):
        close(actual, expected, tolerance)


def agree_with_loop(mixer: nn.Module, loop: Callable[..., Tensor], x: Tensor) -> None:
    """A mixer is the loop with the mixer's weights, outputs and all gradients."""
    weights = list(mixer.parameters())
    x.requires_grad_()

    def by_mixer(*_: Tensor) -> Tensor:
        y: Tensor = mixer(x)[0]
        return y

    agree_with_gradients((by_mixer, lambda *_: loop(mixer, x)), [x, *weights])


def agree_with_carried_loop(mixer: Any, loop: Any, state: Tensor, atol: float = EXACT) -> None:
    """Outputs, final state and all gradients are those of a loop over the tokens.

    `loop` maps the mixer, x and a state to y and the state, as forward does.
    """
    x = normal(3, 41, 6, seed=1).requires_grad_()
    state = state.clone().requires_grad_()
    inputs = [x, state, *mixer.parameters()]
    y_cotangent, state_cotangent = normal(3, 41, 6, seed=2), normal(*state.shape, seed=3)
    results = []
    for run in (mixer, lambda x, state: loop(mixer, x, state)):
        y, final = run(x, state)
        loss = (y * y_cotangent).sum() + (final * state_cotangent).sum()
        results.append([y, final, *torch.autograd.grad(loss, inputs)])
    for actual, expected in zip(*results, strict=True):
        close(actual, expected, atol)


def gated(y: Tensor, mix: Any) -> Tensor:
    """GELU and a gated linear unit, as the blocks of S4D, LRU and S4 have them."""
    left, right = mix(gelu(y)).chunk(2, dim=-1)
    return left * right.sigmoid()


def convolved(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Torch's causal depthwise convolution of x (B, T, D)."""
    padded = pad(x.transpose(1, 2), (weight.shape[1] - 1, 0))
    return conv1d(padded, weight.unsqueeze(1), bias, groups=len(weight)).transpose(1, 2)
