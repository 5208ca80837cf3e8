"""Laws of streaming: any split gives the same, the state is a value, and its size is as stated."""

from __future__ import annotations

import copy
import math
from itertools import pairwise

import torch
from torch import Tensor

from architectures.body import Body, State, state_bytes, state_tensors
from bench.certify.finding import (
    Finding,
    MakeBody,
    Trial,
    bound_of,
    largest,
    relative_error,
    state_error,
)

SPLIT_LENGTH = 101  # more than the longest chunk, and odd
CHUNKS = (1, 7, 64)
SIZE_LENGTHS = (3, 6, 12, 24)


def split_invariance(make_body: MakeBody, dtype: torch.dtype, device: torch.device) -> Finding:
    """The whole sequence equals chunks of 1, 7, 64 and random lengths with carried state."""
    trial = Trial(make_body, dtype, device)
    if not trial.body.causal:
        return refuses_a_state("split_invariance", trial, dtype)
    x = trial.inputs(length=SPLIT_LENGTH)
    with torch.no_grad():
        y, state = trial.body(x)
        errors = {}
        for name, sizes in splits(trial).items():
            chunked_y, chunked_state = run_in_chunks(trial.body, x, sizes)
            errors[name] = largest(
                [relative_error(chunked_y, y), state_error(chunked_state, state)]
            )
    detail = ", ".join(f"{name}: {error:.1e}" for name, error in errors.items())
    error = largest(list(errors.values()))
    return Finding(law="split_invariance", error=error, bound=bound_of(dtype), detail=detail)


def step_matches_forward(make_body: MakeBody, dtype: torch.dtype, device: torch.device) -> Finding:
    """Token by token through `step` equals the whole sequence through `forward`."""
    trial = Trial(make_body, dtype, device)
    if not trial.body.causal:
        return refuses_a_state("step_matches_forward", trial, dtype)
    x = trial.inputs()
    with torch.no_grad():
        y, state = trial.body(x)
        stepped_state: State = None
        outputs = []
        for x_t in x.unbind(1):
            y_t, stepped_state = trial.body.step(x_t, stepped_state)
            outputs.append(y_t)
    error = largest(
        [relative_error(torch.stack(outputs, dim=1), y), state_error(stepped_state, state)]
    )
    return Finding(law="step_matches_forward", error=error, bound=bound_of(dtype))


def state_is_never_mutated(
    make_body: MakeBody, dtype: torch.dtype, device: torch.device
) -> Finding:
    """A state and an input are the same after a call, and the same call gives the same again."""
    trial = Trial(make_body, dtype, device)
    x = trial.inputs()
    with torch.no_grad():
        fresh_y, state = trial.body(x)
        fresh = fresh_y.clone(), copy.deepcopy(state)
        incoming = state if trial.body.causal else None
        kept_state, kept_x = copy.deepcopy(incoming), x.clone()
        first_y, first_state = trial.body(x, incoming)
        first = first_y.clone(), copy.deepcopy(first_state)
        if trial.body.causal:
            trial.body.step(x[:, 0], incoming)
            trial.body.step(x[:, 0], first_state)
        second_y, second_state = trial.body(x, incoming)
        # Without a state too: a module that goes on from its last call shows here alone.
        again_y, again_state = trial.body(x)
    errors = [
        state_error(incoming, kept_state),
        relative_error(x, kept_x),
        state_error(first_state, first[1]),
        relative_error(second_y, first[0]),
        state_error(second_state, first[1]),
        relative_error(again_y, fresh[0]),
        state_error(again_state, fresh[1]),
    ]
    return Finding(law="state_is_never_mutated", error=largest(errors), bound=0.0)


def state_size_is_as_stated(
    make_body: MakeBody, dtype: torch.dtype, device: torch.device
) -> Finding:
    """The state's bytes do not depend on T, or grow by the same for each token if it says so.

    The error is in bytes. Every tensor of the state has the batch first.
    """
    trial = Trial(make_body, dtype, device)
    sizes = []
    for length in SIZE_LENGTHS:
        x = trial.inputs(length=length)
        with torch.no_grad():
            _, state = trial.body(x)
        if any(tensor.shape[0] != len(x) for tensor in state_tensors(state)):
            return Finding(
                law="state_size_is_as_stated", error=math.inf, bound=0.0, detail="batch not first"
            )
        sizes.append(state_bytes(state))
    per_token = (sizes[-1] - sizes[0]) / (SIZE_LENGTHS[-1] - SIZE_LENGTHS[0])
    allowed = per_token if trial.body.state_grows else 0.0
    errors = [
        abs(size - sizes[0] - allowed * (length - SIZE_LENGTHS[0]))
        for size, length in zip(sizes, SIZE_LENGTHS, strict=True)
    ]
    growth = f"growing by {per_token:g} bytes a token" if per_token else "flat"
    detail = f"{sizes[0]} bytes at T = {SIZE_LENGTHS[0]}, {growth}"
    return Finding(law="state_size_is_as_stated", error=max(errors), bound=0.0, detail=detail)


def refuses_a_state(law: str, trial: Trial, dtype: torch.dtype) -> Finding:
    """A body that is not causal has nothing to split: it has to refuse an incoming state."""
    x = trial.inputs()
    _, state = trial.body(x)
    bound = bound_of(dtype)
    try:
        trial.body(x, state)
    except ValueError:
        return Finding(law=law, error=0.0, bound=bound, detail="not causal: refuses a state")
    return Finding(law=law, error=math.inf, bound=bound, detail="not causal, yet takes a state")


def splits(trial: Trial) -> dict[str, list[int]]:
    """Chunk lengths that sum to the whole, by name."""
    cuts = torch.randperm(SPLIT_LENGTH - 1, generator=trial.generator)[:5].sort().values + 1
    edges = [0, *cuts.tolist(), SPLIT_LENGTH]
    random = [end - start for start, end in pairwise(edges)]
    return {
        **{f"chunks of {size}": even_chunks(size, SPLIT_LENGTH) for size in CHUNKS},
        "random": random,
    }


def even_chunks(size: int, length: int) -> list[int]:
    """Chunks of one size, the last one shorter if need be."""
    return [min(size, length - start) for start in range(0, length, size)]


def run_in_chunks(body: Body, x: Tensor, sizes: list[int]) -> tuple[Tensor, State]:
    """Run x (B, T, D) chunk by chunk with carried state: y (B, T, D) and the final state."""
    state: State = None
    outputs = []
    for chunk in x.split(sizes, dim=1):
        y, state = body(chunk, state)
        outputs.append(y)
    return torch.cat(outputs, dim=1), state
