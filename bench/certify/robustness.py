"""Laws of use: long streams, small and odd inputs, other precisions and the compiler."""

from __future__ import annotations

import math
import shutil
import warnings

import torch
from torch import Tensor

from architectures.body import Body, State, state_bytes, state_tensors
from bench.certify.finding import (
    LENGTH,
    N_ROWS,
    PARAMETER_NOISE,
    Finding,
    MakeBody,
    Trial,
    bound_of,
    largest,
    relative_error,
    rows_of,
    state_error,
)
from bench.certify.streaming import even_chunks, refuses_a_state, run_in_chunks

STREAM_STEPS = 400  # quick, and past what the other laws read
LONG_STREAM_STEPS = 100_000
GROWING_COST = 50  # a growing state is read whole at each step: that many times fewer steps
PARALLEL_CHUNK = 4_096  # tokens; a scan keeps (T, D, N) at once
# bfloat16 has 8 bits: 0.4 % a rounding, which adds up over layers and states.
AUTOCAST_BOUND = 0.05
AUTOCAST_LENGTH = 9  # few tokens: a recurrence may rightly amplify each rounding as it amplifies x
NAN_TOKEN = 2


def long_streams_do_not_drift(
    make_body: MakeBody,
    dtype: torch.dtype,
    device: torch.device,
    n_steps: int = STREAM_STEPS,
) -> Finding:
    """Many single steps equal the pass in parallel, and a flat state keeps its bytes."""
    law = "long_streams_do_not_drift"
    # Noise can bring an eigenvalue above 1: where nothing bounds a state, it rightly overflows.
    noise = PARAMETER_NOISE if n_steps <= STREAM_STEPS else 0.0
    trial = Trial(make_body, dtype, device, noise=noise)
    body = trial.body
    if not body.causal:
        return refuses_a_state(law, trial, dtype)
    n_run = max(n_steps // GROWING_COST, STREAM_STEPS) if body.state_grows else n_steps
    limits = [module.max_length for module in body.modules() if isinstance(module, Body)]
    longest = min((limit for limit in limits if limit is not None), default=n_run)
    limited = longest < n_run
    n_run = min(longest, n_run)
    x = trial.inputs(n_rows=1, length=n_run)
    with torch.no_grad():
        expected, _ = run_in_chunks(body, x, even_chunks(PARALLEL_CHUNK, n_run))
        y_t, state = body.step(x[:, 0])
        first_bytes = state_bytes(state)
        outputs = [y_t]
        for x_t in x[:, 1:].unbind(1):
            y_t, state = body.step(x_t, state)
            outputs.append(y_t)
    error = relative_error(torch.stack(outputs, dim=1), expected)
    last_bytes = state_bytes(state)
    detail = f"{n_run} steps" + (", as many as it has positions" if limited else "")
    if not bool(expected.isfinite().all()):
        detail += ", and the pass in parallel is not finite either: the state grows without bound"
    if not body.state_grows and last_bytes != first_bytes:
        error, detail = math.inf, f"{detail}, {first_bytes} bytes of state became {last_bytes}"
    return Finding(law=law, error=error, bound=bound_of(dtype), detail=detail)


def one_token_and_one_row_are_enough(
    make_body: MakeBody, dtype: torch.dtype, device: torch.device
) -> Finding:
    """A single token of a single row gives what it gives at the head of a batch."""
    trial = Trial(make_body, dtype, device)
    x = trial.inputs(length=1)
    with torch.no_grad():
        y, state = trial.body(x)
        errors = []
        for row in range(N_ROWS):
            alone = slice(row, row + 1)
            alone_y, alone_state = trial.body(x[alone])
            errors.append(relative_error(alone_y, y[alone]))
            errors.append(state_error(alone_state, rows_of(state, alone)))
    law = "one_token_and_one_row_are_enough"
    return Finding(law=law, error=largest(errors), bound=bound_of(dtype))


def a_state_of_other_rows_is_refused(
    make_body: MakeBody, dtype: torch.dtype, device: torch.device
) -> Finding:
    """A state of more or of fewer rows than the input, or of one row, is a ValueError."""
    trial = Trial(make_body, dtype, device)
    x = trial.inputs()
    detail = ""
    with torch.no_grad():
        for n_state, n_input in [(N_ROWS, N_ROWS - 1), (N_ROWS - 1, N_ROWS), (1, N_ROWS)]:
            _, state = trial.body(x[:n_state])
            if trial.body.causal and not list(state_tensors(state)):
                continue  # nothing is remembered, so nothing can be of other rows
            try:
                trial.body(x[:n_input], state)
                detail = f"{n_input} rows took the state of {n_state}"
            except ValueError:
                continue
            except Exception as error:  # a body of anyone's may raise anything
                detail = f"raised {type(error).__name__}, not ValueError"
            break
    law = "a_state_of_other_rows_is_refused"
    return Finding(law=law, error=math.inf if detail else 0.0, bound=0.0, detail=detail)


def nan_shows_and_stays_in_its_row(
    make_body: MakeBody, dtype: torch.dtype, device: torch.device
) -> Finding:
    """NaN in a token makes its output NaN and leaves the other rows alone.

    The error counts output values. Earlier tokens are not held to it: a transform over time spreads
    NaN both ways.
    """
    trial = Trial(make_body, dtype, device)
    x = trial.inputs()
    with torch.no_grad():
        expected, _ = trial.body(x)
        x[0, NAN_TOKEN] = torch.nan
        y, _ = trial.body(x)
    hidden = int((~y[0, NAN_TOKEN].isnan()).sum())
    spread = int((y[1:].isnan() & ~expected[1:].isnan()).sum())
    detail = f"{hidden} values hide it, {spread} of other rows have it" if hidden + spread else ""
    law = "nan_shows_and_stays_in_its_row"
    return Finding(law=law, error=float(hidden + spread), bound=0.0, detail=detail)


def autocast_stays_near(make_body: MakeBody, dtype: torch.dtype, device: torch.device) -> Finding:
    """Under autocast to bfloat16 outputs stay near those in float32, and gradients are finite.

    In float32 whatever the dtype: autocast leaves float64 as it is.
    """
    law = "autocast_stays_near"
    trial = Trial(make_body, torch.float32, device)
    body, x = trial.body, trial.inputs(length=AUTOCAST_LENGTH)
    parameters = list(body.parameters())
    with torch.no_grad():
        expected, state = body(x)
        expected_next = body(x, state)[0] if body.causal else expected
    with torch.autocast(device.type, torch.bfloat16):
        y, near_state = body(x)
        following = y
        if body.causal:
            following, _ = body(x, near_state)
    loss = trial.cotangent([y])
    gradients = torch.autograd.grad(loss, parameters, allow_unused=True)
    errors = [relative_error(y, expected), relative_error(following, expected_next)]
    if not all(bool(g.isfinite().all()) for g in gradients if g is not None):
        return Finding(law=law, error=math.inf, bound=AUTOCAST_BOUND, detail="infinite gradient")
    return Finding(law=law, error=largest(errors), bound=AUTOCAST_BOUND)


def compiling_changes_nothing(
    make_body: MakeBody, dtype: torch.dtype, device: torch.device
) -> Finding:
    """The body that torch.compile made gives the same outputs, states and gradients."""
    law = "compiling_changes_nothing"
    if device.type == "cpu" and not any(map(shutil.which, ("c++", "g++", "clang++"))):
        return Finding(law=law, error=0.0, bound=bound_of(dtype), detail="no compiler: not run")
    trial = Trial(make_body, dtype, device)
    x = trial.inputs().requires_grad_()
    tensors = [x, *trial.body.parameters()]
    draws = trial.generator.get_state()

    def results(body: Body) -> tuple[Tensor, State, list[Tensor]]:
        trial.generator.set_state(draws)
        y, state = body(x)
        following = y
        if trial.body.causal:
            following, state = body(x, state)
        loss = trial.cotangent([y, following])
        gradients = torch.autograd.grad(loss, tensors, allow_unused=True, materialize_grads=True)
        return torch.cat([y, following], dim=1), state, list(gradients)

    expected = results(trial.body)
    torch.compiler.reset()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the compiler's own, of what it leaves to Python
        actual = results(torch.compile(trial.body))  # type: ignore[arg-type]
    torch.compiler.reset()
    errors = [relative_error(actual[0], expected[0]), state_error(actual[1], expected[1])]
    errors += [relative_error(a, b) for a, b in zip(actual[2], expected[2], strict=True)]
    detail = f"T = {LENGTH}"
    return Finding(law=law, error=largest(errors), bound=bound_of(dtype), detail=detail)
