"""The Lightning module: the training step, and evaluation by sums and counts."""

from __future__ import annotations

import math
from typing import Any, cast

import lightning
import torch
from lightning.pytorch.core.optimizer import LightningOptimizer
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor
from torch.optim.lr_scheduler import LRScheduler

from architectures.body import State
from bench.spec import TrainingSpec
from bench.trackers import shown
from bench.training.model import SequenceModel, WritingModel
from bench.training.optimiser import make_optimiser, make_schedule
from bench.training.scores import Scores
from bench.training.truncated import backward_through_windows, scored_answers
from tasks.task import Batch, Count, Task, generator

CHECK_EVERY = 20
"""Steps between looks at the loss: each one makes the host wait for the device."""


def seed_draws(seed: int, step: int, rank: int, device: torch.device) -> None:
    """Seed what a step draws from torch's own generators.

    Not by torch.manual_seed: it takes a millisecond, and remembers each call for every kind of
    accelerator that the process has not used.
    """
    drawn = generator("step", seed, step, rank).initial_seed()
    torch.default_generator.manual_seed(drawn)
    if device.type == "cuda":
        torch.cuda.manual_seed(drawn)


class DivergedError(RuntimeError):
    """The loss is no finite number any more."""


class TrainingModule(lightning.LightningModule):
    """Trains and scores a model on a task; `curves` and `scores` hold what came out."""

    def __init__(self, model: SequenceModel, task: Task, training: TrainingSpec, seed: int) -> None:
        super().__init__()
        self.model = model
        self.task = task
        self.training_spec = training
        self.seed = seed
        # The windows of a batch are cut here, and Lightning clips and steps only what it drives.
        self.automatic_optimization = training.tbptt_window is None
        self.curves: dict[str, list[tuple[float, float | None]]] = {"train_loss": []}
        self.scores: dict[str, float] = {}
        self.carried: tuple[bool, ...] | None = None  # whether a batch of test begins new streams
        self._state: State = None
        self._running = Scores()
        self._losses: list[Tensor] = []

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """AdamW or another, with a schedule that advances at every step."""
        optimiser = make_optimiser(self.model, self.training_spec)
        schedule = make_schedule(optimiser, self.training_spec)
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def training_step(self, batch: Batch, batch_index: int) -> Tensor | None:
        """One update from one batch.

        What the step draws, as dropout does, depends on (seed, step, rank) alone, so that a run
        that goes on from a checkpoint draws the same.
        """
        seed_draws(self.seed, batch_index, self.global_rank, self.device)
        window = self.training_spec.tbptt_window
        if window is None:
            loss = self._mean(self.task.loss(self.model.answer(batch), batch.targets))
            self._watch(loss.detach(), batch_index)
            return loss
        self._watch(self._truncated_step(batch, window), batch_index)
        return None

    def _truncated_step(self, batch: Batch, window: int) -> Tensor:
        """One update from the gradients of all windows of a batch."""
        optimiser = self.optimizers()
        assert isinstance(optimiser, LightningOptimizer)
        optimiser.zero_grad()
        total = self._per_device(scored_answers(batch))
        loss = backward_through_windows(
            self.model, self.task, batch, window, total, self.manual_backward
        )
        if self.training_spec.clip_norm is not None:
            self.clip_gradients(optimiser.optimizer, self.training_spec.clip_norm, "norm")
        optimiser.step()
        cast("LRScheduler", self.lr_schedulers()).step()
        return loss

    def _mean(self, loss: Count) -> Tensor:
        return loss.sum / self._per_device(loss.count)

    def _per_device(self, count: Tensor) -> Tensor:
        """The count of the global batch over the number of devices.

        Devices average their gradients; this makes that average the gradient of the global mean,
        whatever share of the scored answers each device has.
        """
        if self.trainer.world_size == 1:
            return count
        summed: Tensor = self.trainer.strategy.reduce(count.clone(), reduce_op="sum")
        return summed / self.trainer.world_size

    def _watch(self, loss: Tensor, batch_index: int) -> None:
        self._losses.append(loss)
        if len(self._losses) < CHECK_EVERY and not self.trainer.is_last_batch:
            return
        loss = torch.stack(self._losses).mean()
        # Each device has its share of the sum over the global count per device: their mean is the
        # loss of the global batch.
        mean = self.trainer.strategy.reduce(loss, reduce_op="mean").item()
        self._losses.clear()
        self._add_point("train_loss", batch_index + 1, mean)
        if not math.isfinite(mean):
            raise DivergedError(f"the training loss was {mean} at or before step {batch_index + 1}")

    def _add_point(self, curve: str, step: float, value: float) -> None:
        """Add to a curve, and tell the trackers, if there are any."""
        self.curves.setdefault(curve, []).append((step, value))
        if self.loggers:
            self._show({curve: [(step, value)]})

    def _show(self, curves: shown.Curves) -> None:
        for step, values in shown.steps(curves):
            for logger in self.loggers:
                logger.log_metrics(values, step)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the curves, and the losses that are not in them yet, those of every rank."""
        checkpoint["curves"] = self.curves
        pending = torch.stack(self._losses) if self._losses else None
        if pending is not None and self.trainer.world_size > 1:
            pending = self.trainer.strategy.all_gather(pending)  # (ranks, losses)
        checkpoint["pending_losses"] = pending

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take up what `on_save_checkpoint` added."""
        self.curves = checkpoint["curves"]
        self._show(self.curves)
        pending = checkpoint["pending_losses"]
        if pending is not None:
            mine = pending[self.global_rank] if self.trainer.world_size > 1 else pending
            self._losses = list(mine.to(self.trainer.strategy.root_device).unbind())

    def on_validation_epoch_start(self) -> None:
        """Begin the sums anew."""
        self._running = Scores(self.task.metrics)

    on_test_epoch_start = on_validation_epoch_start

    def validation_step(self, batch: Batch, batch_index: int) -> None:
        """Add a batch to the sums."""
        self._running.add(self.task.score(self.model.answer(batch).float(), batch.targets))
        if isinstance(self.model, WritingModel):
            written = self.model.write(batch, batch.targets.shape[1])
            self._running.add(self.task.score_written(written, batch))

    def test_step(self, batch: Batch, batch_index: int) -> None:
        """Add a batch to the sums, its state carried on from the batch before if so ordered."""
        if self.carried is None:
            self.validation_step(batch, batch_index)
            return
        state = None if self.carried[batch_index] else self._state
        outputs, self._state = self.model(batch.inputs, state, lengths=batch.lengths)
        self._running.add(self.task.score(outputs.float(), batch.targets))

    def on_validation_epoch_end(self) -> None:
        """Divide, once, after the sum over devices."""
        self._close("val")

    def on_test_epoch_end(self) -> None:
        """Divide, once, after the sum over devices."""
        self._close("test")
        self._state = None

    def _close(self, split: str) -> None:
        def summed(pair: Tensor) -> Tensor:
            reduced: Tensor = self.trainer.strategy.reduce(pair, reduce_op="sum")
            return reduced

        for name, value in self._running.reduce(summed).items():
            self.scores[f"{split}_{name}"] = value
            if split == "val":
                self._add_point(f"val_{name}", float(self.trainer.global_step), value)
