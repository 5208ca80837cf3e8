"""Laws of writing an answer to a source: `encode`, then `decode` whole or symbol by symbol."""

from __future__ import annotations

import torch
from torch import Tensor

from architectures.body import Body, State
from bench.certify.finding import (
    Finding,
    MakeBody,
    Trial,
    bound_of,
    largest,
    relative_error,
    state_error,
)
from bench.certify.gradients import gradient_error

ANSWER_LENGTH = 11
PIECES = (4, 1, 6)
GRADIENT_SOURCE, GRADIENT_ANSWER = 5, 4


def decoding_in_any_split(make_body: MakeBody, dtype: torch.dtype, device: torch.device) -> Finding:
    """After a source, an answer in one piece, in pieces and symbol by symbol is the same."""
    law = "decoding_in_any_split"
    trial = Trial(make_body, dtype, device)
    body = trial.body
    if exemption := exempt(body):
        return Finding(law=law, error=0.0, bound=bound_of(dtype), detail=exemption)
    answer = trial.inputs(length=ANSWER_LENGTH)
    with torch.no_grad():
        source = body.encode(trial.inputs())
        y, state = body.decode(answer, source)
        errors = []
        pieces, piece_state = [], source
        for piece in answer.split(PIECES, dim=1):
            piece_y, piece_state = body.decode(piece, piece_state)
            pieces.append(piece_y)
        steps, step_state = [], source
        for x_t in answer.unbind(1):
            y_t, step_state = body.decode_step(x_t, step_state)
            steps.append(y_t)
        errors = [
            relative_error(torch.cat(pieces, dim=1), y),
            state_error(piece_state, state),
            relative_error(torch.stack(steps, dim=1), y),
            state_error(step_state, state),
        ]
    return Finding(law=law, error=largest(errors), bound=bound_of(dtype))


def a_source_alone_is_the_source_in_a_batch(
    make_body: MakeBody, dtype: torch.dtype, device: torch.device
) -> Finding:
    """Each row's answer depends on its own source up to its length, and on the answer so far."""
    law = "a_source_alone_is_the_source_in_a_batch"
    trial = Trial(make_body, dtype, device)
    body = trial.body
    if exemption := exempt(body):
        return Finding(law=law, error=0.0, bound=bound_of(dtype), detail=exemption)
    x, lengths, answer = trial.inputs(), trial.lengths(), trial.inputs(length=ANSWER_LENGTH)
    cut = ANSWER_LENGTH // 2
    with torch.no_grad():
        y = _answered(body, x, lengths, answer)
        later = torch.cat([answer[:, :cut], trial.inputs(length=ANSWER_LENGTH - cut)], dim=1)
        errors = [relative_error(_answered(body, x, lengths, later)[:, :cut], y[:, :cut])]
        for row, length in enumerate(lengths.tolist()):
            alone = slice(row, row + 1)
            alone_y = _answered(body, x[alone, :length], None, answer[alone])
            errors.append(relative_error(alone_y, y[alone]))
    return Finding(law=law, error=largest(errors), bound=bound_of(dtype))


def gradients_reach_the_source(
    make_body: MakeBody, dtype: torch.dtype, device: torch.device
) -> Finding:
    """An answer's gradients by its source and by each parameter equal central differences."""
    trial = Trial(make_body, torch.float64, device)
    body = trial.body
    law = "gradients_reach_the_source"
    if exemption := exempt(body):
        return Finding(law=law, error=0.0, bound=bound_of(dtype), detail=exemption)
    source = trial.inputs(2, GRADIENT_SOURCE).requires_grad_()
    answer = trial.inputs(2, GRADIENT_ANSWER)
    lengths = torch.tensor([GRADIENT_SOURCE, GRADIENT_SOURCE - 2], device=device)

    def values() -> list[Tensor]:
        return [_answered(body, source, lengths, answer)]

    return gradient_error(law, trial, {"source": source}, values)


def exempt(body: Body) -> str:
    """Why a body is not held to these laws; empty if it is."""
    if not body.decodes:
        return "reads both ways and does not decode: exempt"
    own = ("encode", "decode", "decode_step")
    if all(getattr(type(body), name) is getattr(Body, name) for name in own):
        return "an answer is read on from its source: held to it by the other laws"
    return ""


def _answered(body: Body, x: Tensor, lengths: Tensor | None, answer: Tensor) -> Tensor:
    state: State = body.encode(x, lengths=lengths)
    y, _ = body.decode(answer, state)
    return y
