"""The steps that are timed and whose memory is measured: plain PyTorch, no trainer around them."""

from __future__ import annotations

import torch

from bench.training.execute import Prepared
from bench.training.optimiser import make_optimiser
from bench.training.precision import lowering, whole_dtype
from bench.training.truncated import backward_through_windows, scored_answers


class TrainingStep:
    """Forward, backward, clipping and optimiser on one batch, the same one each time."""

    def __init__(self, prepared: Prepared) -> None:
        self.training = prepared.run.training
        self.task = prepared.task
        dtype = whole_dtype(self.training.precision)
        self.model = prepared.model.to(dtype)
        self.batch = prepared.batch().cast(dtype)
        self.optimiser = make_optimiser(self.model, self.training)
        self.context = lowering(self.training.precision, prepared.device)

    def __call__(self) -> None:
        """One update."""
        if not self.model.training:
            self.model.train()
        self.optimiser.zero_grad(set_to_none=True)
        with self.context:
            self._backward()
        if self.training.clip_norm is not None:
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.training.clip_norm)
        self.optimiser.step()

    def _backward(self) -> None:
        batch, window = self.batch, self.training.tbptt_window
        if window is not None:
            total = scored_answers(batch)
            backward_through_windows(
                self.model, self.task, batch, window, total, lambda loss: loss.backward()
            )
            return
        loss, count = self.task.loss(self.model.answer(batch), batch.targets)
        (loss / count).backward()


class InferenceStep:
    """The parallel forward pass on one batch, without gradient."""

    def __init__(self, prepared: Prepared) -> None:
        precision = prepared.run.training.precision
        dtype = whole_dtype(precision)
        self.model = prepared.model.to(dtype)
        self.batch = prepared.batch().cast(dtype)
        self.context = lowering(precision, prepared.device)

    def __call__(self) -> None:
        """One pass."""
        if self.model.training:
            self.model.eval()
        with torch.no_grad(), self.context:
            self.model.answer(self.batch)
