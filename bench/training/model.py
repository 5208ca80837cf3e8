"""The model around a body: embedding and head, equal for every architecture.

B batch, T time, C channels, D width, K outputs, S symbols of an answer.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from architectures.body import Body, State
from tasks.task import UNSCORED, Batch, Task, Tokens


class SequenceModel(nn.Module):
    """Embedding, body, head: inputs (B, T) or (B, T, C) to outputs (B, T, K) or (B, K)."""

    def __init__(self, body: Body, task: Task) -> None:
        super().__init__()
        self.body = body
        self.per_step = task.kind == "per_step"
        self.pool = task.pool
        self.embedding = embedding_for(body, task)
        self.head = nn.Linear(body.width, task.n_outputs)

    def forward(
        self, inputs: Tensor, state: State = None, *, lengths: Tensor | None = None
    ) -> tuple[Tensor, State]:
        """Map inputs (B, T) or (B, T, C) to outputs (B, T, K) or, per sequence, (B, K)."""
        y, state = self.body(self.embedding(inputs), state, lengths=lengths)  # (B, T, D)
        if not self.per_step:
            y = self.pooled(y, lengths)  # (B, D)
        return self.head(y), state

    def answer(self, batch: Batch) -> Tensor:
        """The outputs that the task scores against the batch's targets."""
        outputs: Tensor = self(batch.inputs, lengths=batch.lengths)[0]
        return outputs

    def pooled(self, y: Tensor, lengths: Tensor | None) -> Tensor:
        """The one of y (B, T, D) that stands for its sequence: the last real one, or the mean."""
        if lengths is None:
            return y[:, -1] if self.pool == "last" else y.mean(dim=1)
        if self.pool == "last":
            return y[torch.arange(len(y), device=y.device), lengths - 1]
        real = torch.arange(y.shape[1], device=y.device) < lengths.unsqueeze(1)  # (B, T)
        total = torch.where(real.unsqueeze(2), y, y.new_zeros(())).sum(dim=1)
        return total / lengths.unsqueeze(1)


class PairModel(SequenceModel):
    """Two documents through one body, as LRA's retrieval: Tay et al. 2021, section 2.2.3,
    https://arxiv.org/abs/2011.04006. The head reads [a, b, a * b, a - b] of their pooled outputs.
    """

    def __init__(self, body: Body, task: Task) -> None:
        super().__init__(body, task)
        self.head = nn.Linear(4 * body.width, task.n_outputs)

    def answer(self, batch: Batch) -> Tensor:
        """Map inputs (B, 2, T) or (B, 2, T, C) to outputs (B, K)."""
        lengths = None if batch.lengths is None else batch.lengths.flatten()  # (2B,)
        y, _ = self.body(self.embedding(batch.inputs.flatten(0, 1)), lengths=lengths)  # (2B, T, D)
        pooled = self.pooled(y, lengths)  # (2B, D)
        a, b = pooled.unflatten(0, (-1, 2)).unbind(1)  # (B, D) each
        outputs: Tensor = self.head(torch.cat([a, b, a * b, a - b], dim=1))
        return outputs


class WritingModel(SequenceModel):
    """Reads a source and writes an answer: Sutskever et al. 2014, https://arxiv.org/abs/1409.3215.

    The body's state after the source carries on into the answer, whose first input is a start
    symbol: a causal body reads source, separator and answer as one sequence.
    """

    def __init__(self, body: Body, task: Task) -> None:
        super().__init__(body, task)
        self.start_symbol = task.n_outputs
        self.end_symbol = task.end_symbol
        self.written_embedding = nn.Embedding(task.n_outputs + 1, body.width)

    def answer(self, batch: Batch) -> Tensor:
        """Outputs (B, S, K) for each symbol of the targets (B, S), given those before it."""
        state = self.body.encode(self.embedding(batch.inputs), lengths=batch.lengths)
        before = batch.targets[:, :-1].clamp(min=0)  # what follows UNSCORED is not scored either
        start = before.new_full((len(before), 1), self.start_symbol)
        y, _ = self.body.decode(self.written_embedding(torch.cat([start, before], dim=1)), state)
        outputs: Tensor = self.head(y)
        return outputs

    @torch.no_grad()
    def write(self, batch: Batch, n_symbols: int) -> Tensor:
        """The likeliest symbol after symbol, up to `n_symbols`: (B, n_symbols), UNSCORED after the
        end symbol.
        """
        state = self.body.encode(self.embedding(batch.inputs), lengths=batch.lengths)
        symbol = torch.full((len(batch),), self.start_symbol, device=batch.inputs.device)
        ended = torch.zeros_like(symbol, dtype=torch.bool)
        written = []
        for _ in range(n_symbols):
            y_t, state = self.body.decode_step(self.written_embedding(symbol), state)
            symbol = self.head(y_t).argmax(-1)  # (B,)
            written.append(symbol.masked_fill(ended, UNSCORED))
            if self.end_symbol is not None:
                ended = ended | (symbol == self.end_symbol)
        return torch.stack(written, dim=1)


def make_model(body: Body, task: Task) -> SequenceModel:
    """The model for a kind of task."""
    match task.kind:
        case "pair":
            return PairModel(body, task)
        case "seq2seq":
            return WritingModel(body, task)
        case _:
            return SequenceModel(body, task)


def embedding_for(body: Body, task: Task) -> nn.Module:
    """What makes vectors (B, T, D) of a task's inputs."""
    inputs = task.inputs
    if isinstance(inputs, Tokens):
        return nn.Embedding(inputs.vocabulary, body.width)
    return nn.Linear(inputs.channels, body.width)


def count_parameters(module: nn.Module) -> int:
    """Trainable parameters."""
    return sum(p.numel() for p in module.parameters() if p.requires_grad)
