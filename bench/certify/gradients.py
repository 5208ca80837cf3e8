"""Laws of learning: gradients are right, whole or in chunks, and a saved body is the same body."""

from __future__ import annotations

import io
from collections.abc import Callable

import torch
from torch import Tensor

from architectures.body import State, state_tensors
from bench.certify.finding import Finding, MakeBody, Trial, bound_of, largest, relative_error
from bench.certify.streaming import even_chunks, run_in_chunks

GRADIENT_ROWS, GRADIENT_LENGTH, GRADIENT_CHUNK = 2, 9, 4
DIFFERENCE_STEP = 1e-5
# Of a central difference in float64: rounding 1e-16 / 1e-5, truncation 1e-10 times a third
# derivative.
DIFFERENCE_BOUND = 1e-6
CHUNKED_LENGTH, CHUNK = 37, 7


def gradients_match_differences(
    make_body: MakeBody, dtype: torch.dtype, device: torch.device
) -> Finding:
    """Gradients by x, each parameter, and through the state, equal central differences.

    Along one random direction for each tensor, in float64 whatever the dtype: a difference of
    float32 numbers tells nothing.
    """
    trial = Trial(make_body, torch.float64, device)
    x = trial.inputs(GRADIENT_ROWS, GRADIENT_LENGTH).requires_grad_()

    def values() -> list[Tensor]:
        sizes = even_chunks(GRADIENT_CHUNK, GRADIENT_LENGTH) if trial.body.causal else [len(x[0])]
        y, state = run_in_chunks(trial.body, x, sizes)
        return [y, *state_tensors(state)]

    return gradient_error("gradients_match_differences", trial, {"x": x}, values)


def gradient_error(
    law: str, trial: Trial, inputs: dict[str, Tensor], values: Callable[[], list[Tensor]]
) -> Finding:
    """Compare the gradients of `values` by the inputs and by every parameter to differences."""
    tensors = {**inputs, **dict(trial.body.named_parameters())}
    draws = trial.generator.get_state()

    def loss() -> Tensor:
        trial.generator.set_state(draws)  # the same cotangent each time
        return trial.cotangent(values())

    gradients = torch.autograd.grad(loss(), list(tensors.values()), allow_unused=True)
    scale = max(g.norm().item() for g in gradients if g is not None) or 1.0
    errors = {}
    for (name, tensor), gradient in zip(tensors.items(), gradients, strict=True):
        direction = trial.normal(*tensor.shape)
        direction /= direction.norm()
        analytic = 0.0 if gradient is None else (gradient * direction).sum().item()
        with torch.no_grad():
            tensor += DIFFERENCE_STEP * direction
            above = loss().item()
            tensor -= 2 * DIFFERENCE_STEP * direction
            below = loss().item()
            tensor += DIFFERENCE_STEP * direction
        numeric = (above - below) / (2 * DIFFERENCE_STEP)
        own_scale = scale if gradient is None else max(gradient.norm().item(), 1e-3 * scale)
        errors[name] = abs(analytic - numeric) / own_scale
    worst = max(errors, key=errors.__getitem__)
    return Finding(
        law=law,
        error=largest(list(errors.values())),
        bound=DIFFERENCE_BOUND,
        detail=f"largest at {worst}",
    )


def gradients_match_in_chunks(
    make_body: MakeBody, dtype: torch.dtype, device: torch.device
) -> Finding:
    """Gradients are the same whether a sequence runs whole or in chunks with carried state."""
    law = "gradients_match_in_chunks"
    trial = Trial(make_body, dtype, device)
    if not trial.body.causal:
        return Finding(law=law, error=0.0, bound=bound_of(dtype), detail="not causal: exempt")
    x = trial.inputs(length=CHUNKED_LENGTH).requires_grad_()
    tensors = [x, *trial.body.parameters()]
    draws = trial.generator.get_state()

    def gradients(y: Tensor, state: State) -> list[Tensor]:
        trial.generator.set_state(draws)
        loss = trial.cotangent([y, *state_tensors(state)])
        return list(torch.autograd.grad(loss, tensors, allow_unused=True, materialize_grads=True))

    whole = gradients(*trial.body(x))
    chunked = gradients(*run_in_chunks(trial.body, x, even_chunks(CHUNK, CHUNKED_LENGTH)))
    error = largest([relative_error(a, b) for a, b in zip(chunked, whole, strict=True)])
    return Finding(law=law, error=error, bound=bound_of(dtype))


def saving_keeps_the_body(make_body: MakeBody, dtype: torch.dtype, device: torch.device) -> Finding:
    """A body with other parameters gives the same outputs once it has loaded the saved ones."""
    trial = Trial(make_body, dtype, device)
    saved = io.BytesIO()
    torch.save(trial.body.state_dict(), saved)
    saved.seek(0)
    other = trial.build(make_body, seed=1)
    other.load_state_dict(torch.load(saved, map_location=device, weights_only=True))
    x = trial.inputs()
    with torch.no_grad():
        error = relative_error(other(x)[0], trial.body(x)[0])
    return Finding(law="saving_keeps_the_body", error=error, bound=0.0)
