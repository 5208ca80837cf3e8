"""The model around a body: embedding and head, equal for every architecture.

B batch, T time, C channels, D width, K outputs.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from architectures.body import Body, State
from tasks.task import Task, Tokens


class SequenceModel(nn.Module):
    """Embedding, body, head: inputs (B, T) or (B, T, C) to outputs (B, T, K) or (B, K)."""

    def __init__(self, body: Body, task: Task) -> None:
        super().__init__()
        self.body = body
        self.per_step = task.kind == "per_step"
        self.pool = task.pool
        inputs = task.inputs
        self.embedding: nn.Module
        if isinstance(inputs, Tokens):
            self.embedding = nn.Embedding(inputs.vocabulary, body.width)
        else:
            self.embedding = nn.Linear(inputs.channels, body.width)
        self.head = nn.Linear(body.width, task.n_outputs)

    def forward(
        self, inputs: Tensor, state: State = None, *, lengths: Tensor | None = None
    ) -> tuple[Tensor, State]:
        """Map inputs (B, T) or (B, T, C) to outputs (B, T, K) or, per sequence, (B, K)."""
        y, state = self.body(self.embedding(inputs), state, lengths=lengths)  # (B, T, D)
        if not self.per_step:
            y = self._pooled(y, lengths)  # (B, D)
        return self.head(y), state

    def _pooled(self, y: Tensor, lengths: Tensor | None) -> Tensor:
        if lengths is None:
            return y[:, -1] if self.pool == "last" else y.mean(dim=1)
        if self.pool == "last":
            return y[torch.arange(len(y), device=y.device), lengths - 1]
        real = torch.arange(y.shape[1], device=y.device) < lengths.unsqueeze(1)  # (B, T)
        total = torch.where(real.unsqueeze(2), y, y.new_zeros(())).sum(dim=1)
        return total / lengths.unsqueeze(1)


def count_parameters(module: nn.Module) -> int:
    """Trainable parameters."""
    return sum(p.numel() for p in module.parameters() if p.requires_grad)
