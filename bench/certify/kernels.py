"""The law of kernels: what is fast is also right."""

from __future__ import annotations

import torch
from torch import Tensor

from architectures.body import state_tensors
from architectures.kernels.paths import name_of, recorded
from bench.certify.finding import Finding, MakeBody, Trial, largest, relative_error

# Gradients smaller than this part of the largest are rounding: a bias before a norm has none.
LEAST_SCALE = 1e-3
# float32 over 37 tokens: 1e-6 for most, 6e-5 for the frequencies of S5, whose gradients cancel. A
# wrong sign or a lost term gives 0.01 to 1.
FAST_BOUND = 5e-4


def fast_path_equals_reference(
    make_body: MakeBody, dtype: torch.dtype, device: torch.device
) -> Finding:
    """Outputs, state and every gradient in float32, by the kernels chosen here, are float64's.

    In float32 whatever the dtype: there fast kernels are; in float64 operations are plain PyTorch.
    """
    fast = Trial(make_body, torch.float32, device)
    exact = Trial(make_body, torch.float64, device)
    x = fast.inputs()
    exact.generator.set_state(fast.generator.get_state())  # the same cotangent
    with recorded() as paths:
        found = _outputs_and_gradients(fast, x)
    expected = _outputs_and_gradients(exact, x.double())
    errors = [relative_error(a, b) for a, b in zip(found[0], expected[0], strict=True)]
    scale = max(float(gradient.abs().max()) for gradient in expected[1])
    for actual, wanted in zip(found[1], expected[1], strict=True):
        own_scale = max(float(wanted.abs().max()), LEAST_SCALE * scale)
        errors.append(float((actual.double() - wanted).abs().max()) / own_scale)
    return Finding(
        law="fast_path_equals_reference",
        error=largest(errors),
        bound=FAST_BOUND,
        detail=name_of(paths),
    )


def _outputs_and_gradients(trial: Trial, x: Tensor) -> tuple[list[Tensor], list[Tensor]]:
    """The outputs with the state's numbers, and the gradients by x and every parameter."""
    x = x.requires_grad_()
    y, state = trial.body(x)
    outputs = [value for value in (y, *state_tensors(state)) if value.is_floating_point()]
    tensors = [x, *trial.body.parameters()]
    gradients = torch.autograd.grad(
        trial.cotangent(outputs), tensors, allow_unused=True, materialize_grads=True
    )
    return [value.detach() for value in outputs], list(gradients)
