"""Truncated backpropagation through time: Williams and Peng 1990, https://doi.org/10.1162/neco.1990.2.4.490.

B batch, T time, W window.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from architectures.body import State
from bench.training.model import SequenceModel
from tasks.task import UNSCORED, Batch, Task


def backward_through_windows(
    model: SequenceModel,
    task: Task,
    batch: Batch,
    window: int,
    total: Tensor,
    backward: Callable[[Tensor], None],
) -> Tensor:
    """Backpropagate the loss over `total` answers through each window of W tokens alone.

    The state passes from window to window and its gradient is cut there, so that memory grows with
    W and not with T; the gradients add up, so that the data and the number of updates are those of
    the full pass. A per-sequence task is answered at the end: its gradient reaches the last window.

    Returns the loss, without gradient.
    """
    length = batch.inputs.shape[1]
    per_step = task.kind == "per_step"
    loss = torch.zeros((), device=batch.inputs.device)
    state: State = None
    for start in range(0, length, window):
        piece = slice(start, min(start + window, length))
        answered = per_step or piece.stop == length
        with torch.set_grad_enabled(answered):
            outputs, state = model(batch.inputs[:, piece], state)
        state = pytree.tree_map_only(Tensor, Tensor.detach, state)
        if answered:
            targets = batch.targets[:, piece] if per_step else batch.targets
            part = task.loss(outputs, targets).sum / total
            backward(part)
            loss += part.detach()
    return loss


def scored_answers(batch: Batch) -> Tensor:
    """How many answers of a batch count: what its loss is divided by."""
    targets = batch.targets
    if targets.is_floating_point():
        return (~targets.isnan()).sum().float()
    return (targets != UNSCORED).sum().float()
