"""How often clipping acts: the gradient norms of a short training by the run's own settings.

Clipping of the whole gradient's norm: Pascanu et al. 2013, https://arxiv.org/abs/1211.5063,
algorithm 1.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from bench.measure.metrics import Metrics
from bench.measure.step import TrainingStep
from bench.training.data import TrainOrder
from bench.training.execute import Prepared
from bench.training.module import DivergedError
from bench.training.optimiser import make_schedule
from tasks.task import Batch


class WatchedStep(TrainingStep):
    """A training step with its schedule, that returns the gradient's norm before clipping."""

    def __init__(self, prepared: Prepared) -> None:
        super().__init__(prepared)
        self.schedule = make_schedule(self.optimiser, self.training)

    def update(self, batch: Batch) -> Tensor:
        """One update from a batch."""
        self.batch = batch
        self.model.train()
        self.optimiser.zero_grad(set_to_none=True)
        with self.context:
            self._backward()
        clip_norm = self.training.clip_norm
        norm = torch.nn.utils.clip_grad_norm_(
            self.model.parameters(), math.inf if clip_norm is None else clip_norm
        )
        self.optimiser.step()
        self.schedule.step()
        return norm.detach()


def train(prepared: Prepared, steps: int) -> Metrics:
    """Train the model of `prepared` for some steps: norms and the share of clipped steps.

    Batches, optimiser, schedule, clipping, precision and window are the run's own.

    Raises:
        DivergedError: a gradient's norm is no finite number; the model is then worth nothing.
    """
    run = prepared.run
    training = run.training.model_copy(update={"steps": steps})
    prepared = replace(prepared, run=run.model_copy(update={"training": training}))
    step = WatchedStep(prepared)
    dtype = next(step.model.parameters()).dtype
    norms = []
    for number, batch in enumerate(_batches(prepared, steps)):
        norm = step.update(batch.to(prepared.device).cast(dtype)).item()
        if not math.isfinite(norm):
            raise DivergedError(f"the gradient's norm was {norm} at step {number + 1} of {steps}")
        norms.append(norm)
    return summary(norms, training.clip_norm)


def summary(norms: list[float], clip_norm: float | None) -> Metrics:
    """Percentiles of the gradient norms, and the share above the norm that is clipped to."""
    p50, p99 = np.percentile(norms, [50, 99])
    found: Metrics = {
        "gradient_norm_p50": float(p50),
        "gradient_norm_p99": float(p99),
        "gradient_norm_steps": len(norms),
    }
    if clip_norm is None:
        return {**found, "clipped_share_missing": "clip_norm is null: no step is clipped"}
    return {**found, "clipped_share": sum(norm > clip_norm for norm in norms) / len(norms)}


def _batches(prepared: Prepared, steps: int) -> Iterator[Batch]:
    """The training batches of a run that trains on one device."""
    run, task = prepared.run, prepared.task
    size = run.training.sequences(run.length)
    for indices in TrainOrder(task.size("train"), size, steps, run.seed, 0, 1):
        yield task.examples("train", run.seed, indices)
