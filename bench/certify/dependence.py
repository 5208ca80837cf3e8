"""Laws of dependence: what an output may depend on, and what not."""

from __future__ import annotations

import torch

from bench.certify.finding import (
    LENGTH,
    N_ROWS,
    Finding,
    MakeBody,
    Trial,
    bound_of,
    largest,
    relative_error,
    rows_of,
    state_error,
)

CUTS = (1, 18, LENGTH - 1)
FAR = 100.0  # how much larger than the inputs what must not matter is made
CONTINUATION = 5


def past_ignores_future_values(
    make_body: MakeBody, dtype: torch.dtype, device: torch.device
) -> Finding:
    """Other inputs from t on leave all outputs before t as they are."""
    law = "past_ignores_future_values"
    trial = Trial(make_body, dtype, device)
    if not trial.body.causal:
        return Finding(law=law, error=0.0, bound=bound_of(dtype), detail="not causal: exempt")
    x = trial.inputs()
    errors = []
    with torch.no_grad():
        y, _ = trial.body(x)
        for cut in CUTS:
            changed = torch.cat([x[:, :cut], trial.inputs()[:, cut:]], dim=1)
            changed_y, _ = trial.body(changed)
            errors.append(relative_error(changed_y[:, :cut], y[:, :cut]))
    return Finding(law=law, error=largest(errors), bound=bound_of(dtype))


def past_ignores_future_gradients(
    make_body: MakeBody, dtype: torch.dtype, device: torch.device
) -> Finding:
    """The gradient of the outputs before t by the inputs from t on is 0."""
    law = "past_ignores_future_gradients"
    trial = Trial(make_body, dtype, device)
    if not trial.body.causal:
        return Finding(law=law, error=0.0, bound=bound_of(dtype), detail="not causal: exempt")
    x = trial.inputs().requires_grad_()
    errors = []
    for cut in CUTS:
        y, _ = trial.body(x)
        (gradient,) = torch.autograd.grad(trial.cotangent([y[:, :cut]]), x)
        scale = gradient.abs().max().item() or 1.0
        errors.append(gradient[:, cut:].abs().max().item() / scale)
    return Finding(law=law, error=largest(errors), bound=bound_of(dtype))


def rows_do_not_mix(make_body: MakeBody, dtype: torch.dtype, device: torch.device) -> Finding:
    """Each row alone gives the same outputs and state as in the batch, whatever the others hold."""
    trial = Trial(make_body, dtype, device)
    x = trial.inputs()
    errors = []
    with torch.no_grad():
        y, state = trial.body(x)
        for row in range(N_ROWS):
            alone = slice(row, row + 1)
            alone_y, alone_state = trial.body(x[alone])
            among_others = FAR * trial.inputs()
            among_others[alone] = x[alone]
            others_y, others_state = trial.body(among_others)
            errors += [
                relative_error(alone_y, y[alone]),
                state_error(alone_state, rows_of(state, alone)),
                relative_error(others_y[alone], y[alone]),
                state_error(rows_of(others_state, alone), rows_of(state, alone)),
            ]
    return Finding(law="rows_do_not_mix", error=largest(errors), bound=bound_of(dtype))


def padding_changes_nothing(
    make_body: MakeBody, dtype: torch.dtype, device: torch.device
) -> Finding:
    """What lies beyond `lengths` changes neither the outputs before it nor the state after.

    Each row gives what it gives alone and unpadded, and carries on from its state likewise: states
    are compared by what follows from them, since a cache may be longer than it needs.
    """
    trial = Trial(make_body, dtype, device)
    body, x, lengths = trial.body, trial.inputs(), trial.lengths()
    following = trial.inputs(length=CONTINUATION)
    # A second call with padding has to carry on from rows of different length.
    following_lengths = torch.tensor([CONTINUATION, 2, 3], device=device)
    with torch.no_grad():
        y, state = body(x, lengths=lengths)
        garbage = FAR * trial.inputs()
        for row, n_real in enumerate(lengths.tolist()):
            garbage[row, :n_real] = x[row, :n_real]
        garbage_y, garbage_state = body(garbage, lengths=lengths)
        errors = [state_error(garbage_state, state)]
        if body.causal:
            second_y, second_state = body(following, garbage_state, lengths=following_lengths)
            third_y, _ = body(following, second_state)
        for row, n_real in enumerate(lengths.tolist()):
            alone = slice(row, row + 1)
            alone_y, alone_state = body(x[alone, :n_real])
            errors.append(relative_error(y[alone, :n_real], alone_y))
            errors.append(relative_error(garbage_y[alone, :n_real], alone_y))
            if not body.causal:
                continue
            n_next = int(following_lengths[row])
            alone_second_y, alone_state = body(following[alone, :n_next], alone_state)
            errors.append(relative_error(second_y[alone, :n_next], alone_second_y))
            alone_third_y, _ = body(following[alone], alone_state)
            errors.append(relative_error(third_y[alone], alone_third_y))
    errors.append(padding_gradient(trial))
    return Finding(law="padding_changes_nothing", error=largest(errors), bound=bound_of(dtype))


def padding_gradient(trial: Trial) -> float:
    """The largest gradient of the real outputs by the padding, relative to the largest of all."""
    x, lengths = trial.inputs().requires_grad_(), trial.lengths()
    y, _ = trial.body(x, lengths=lengths)
    real = torch.arange(LENGTH, device=trial.device) < lengths.unsqueeze(1)  # (B, T)
    (gradient,) = torch.autograd.grad(trial.cotangent([y[real]]), x)
    scale = gradient.abs().max().item() or 1.0
    return gradient[~real].abs().max().item() / scale
