"""Train a model by lightning.Trainer, keep the weights that are best on val, test them once."""

from __future__ import annotations

import logging
import math
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import lightning
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from torch import Tensor

from bench.spec import ResourceSpec, Run
from bench.trackers.follow import Follower
from bench.training.checkpoint import Checkpoints, StepBoundary, WholeFiles
from bench.training.data import TaskDataModule
from bench.training.group import on_cuda, process_group
from bench.training.logger import CurveLogger
from bench.training.model import SequenceModel
from bench.training.module import DivergedError, TrainingModule
from tasks.task import Task

REFUSALS = (ValueError, MemoryError, RuntimeError)
"""What a body may raise at a length that it cannot do; the score at that length is then missing."""

EVALUATIONS = 10
"""Looks at val in a run that does not say how many."""


@dataclass(frozen=True)
class Trained:
    """What came out of training."""

    metrics: dict[str, float | int | str | None]
    curves: dict[str, list[tuple[float, float | None]]]


class BestOnVal(lightning.Callback):
    """Keeps the weights of the best val score, and stops a run that no longer gets better."""

    KEPT = ("best", "step", "scores", "weights", "evaluations_since")
    """What a checkpoint has of it."""

    def __init__(self, metric: str, higher_is_better: bool, patience: int | None) -> None:
        self.key, self.sign = f"val_{metric}", 1.0 if higher_is_better else -1.0
        self.patience = patience
        self.best = -math.inf
        self.step: int | None = None
        self.scores: dict[str, float] = {}
        self.weights: dict[str, Tensor] = {}
        self.evaluations_since = 0

    def state_dict(self) -> dict[str, Any]:
        """The best so far."""
        return {name: getattr(self, name) for name in self.KEPT}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from there."""
        for name in self.KEPT:
            setattr(self, name, state_dict[name])

    def on_validation_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule
    ) -> None:
        """Compare."""
        assert isinstance(pl_module, TrainingModule)
        score = self.sign * pl_module.scores[self.key]
        if score > self.best:
            self.best, self.step = score, trainer.global_step
            self.scores = {k: v for k, v in pl_module.scores.items() if k.startswith("val_")}
            self.weights = {k: v.detach().clone() for k, v in pl_module.model.state_dict().items()}
            self.evaluations_since = 0
            return
        self.evaluations_since += 1
        if self.patience is not None and self.evaluations_since >= self.patience:
            trainer.should_stop = True


def fit(
    run: Run,
    task: Task,
    model: SequenceModel,
    checkpoints: Checkpoints | None = None,
    begin_followers: Callable[[bool], Sequence[Follower]] = lambda continued: (),
) -> Trained:
    """Train, select on val, test once. The model is left with the weights that were tested.

    With `checkpoints`, go on from the newest one, and make others. `begin_followers` is told
    whether it does go on, and gives the trackers to which curves are told.

    Raises:
        DivergedError: the loss, or every val score, is no finite number.
        Interrupted: a signal asked this process to leave.
    """
    training = run.training
    primary = task.metrics[0]
    module = TrainingModule(model, task, training, run.seed)
    data = TaskDataModule(run, task)
    best = BestOnVal(primary.name, primary.higher_is_better, training.patience)
    val_every = min(training.val_every or max(1, training.steps // EVALUATIONS), training.steps)
    with process_group(run.resources), _quiet():
        taken_up = None if checkpoints is None else checkpoints.newest(module)
        seconds_before = 0.0 if checkpoints is None else checkpoints.seconds
        trainer = _trainer(
            run.resources,
            logger=[CurveLogger(one) for one in begin_followers(taken_up is not None)],
            log_every_n_steps=0,  # of what modules log by Lightning's own ways, which ours does not
            callbacks=[best, StepBoundary(checkpoints, run.resources.checkpoint_s)],
            precision=training.precision,
            max_steps=training.steps,
            val_check_interval=val_every,
            gradient_clip_val=training.clip_norm if module.automatic_optimization else None,
        )
        begun = time.perf_counter()
        trainer.fit(module, datamodule=data, ckpt_path=taken_up)
        seconds = seconds_before + time.perf_counter() - begun
        if trainer.global_step % val_every:
            trainer.validate(module, datamodule=data, verbose=False)
        if best.step is None:
            raise DivergedError(f"val {primary.name} was never a finite number")
        model.load_state_dict(best.weights)
        tested = _tested(trainer, module, data)
        steps = trainer.global_step
        further = {**_carried(trainer, module, data), **_at_lengths(run, trainer, module, data)}
    tokens = steps * data.batch_size * task.tokens
    return Trained(
        metrics={
            "test_score": tested[primary.name],
            "val_score": best.scores[f"val_{primary.name}"],
            **{f"test_{name}": value for name, value in tested.items()},
            **best.scores,
            **further,
            "steps_done": steps,
            "best_step": best.step,
            "train_tokens": tokens,
            "train_seconds": seconds,
            "observed_train_tokens_per_s": tokens / seconds,
        },
        curves=module.curves,
    )


def _tested(
    trainer: lightning.Trainer, module: TrainingModule, data: TaskDataModule
) -> dict[str, float]:
    """Every metric of the test split, by name."""
    trainer.test(module, datamodule=data, verbose=False)
    return {k.removeprefix("test_"): v for k, v in module.scores.items() if k.startswith("test_")}


def _carried(
    trainer: lightning.Trainer, module: TrainingModule, data: TaskDataModule
) -> dict[str, float | int | str | None]:
    """The metrics of a contiguous test split read with carried state, `test_<metric>_carried`."""
    if not (module.task.contiguous and module.model.body.causal):
        return {}
    data.carries, module.carried = True, data.carried().begins
    try:
        found = _tested(trainer, module, data)
    except REFUSALS as error:
        return {"carried_missing": f"{type(error).__name__}: {error}"}
    finally:
        data.carries, module.carried = False, None
    return {f"test_{name}_carried": value for name, value in found.items()}


def _at_lengths(
    run: Run, trainer: lightning.Trainer, module: TrainingModule, data: TaskDataModule
) -> dict[str, float | int | str | None]:
    """The metrics of the test split at other lengths, `test_<metric>_at_<length>`.

    `test_score_beyond` is the mean of the primary metric over the lengths beyond the run's own, as
    in Delétang et al. 2023, https://arxiv.org/abs/2207.02098, section 4; missing if one of them is.
    """
    task, batch_size = module.task, data.batch_size
    found: dict[str, float | int | str | None] = {}
    by_length: list[tuple[float, float | None]] = []
    for length in run.test_lengths:
        module.task = data.task = replace(task, length=length)
        data.batch_size = max(1, batch_size * run.length // length)
        try:
            scores = _tested(trainer, module, data)
        except REFUSALS as error:  # a table of positions that is too short, or no memory
            found[f"missing_at_{length}"] = f"{type(error).__name__}: {error}"
            scores = {}
        found |= {f"test_{name}_at_{length}": value for name, value in scores.items()}
        by_length.append((length, scores.get(task.metrics[0].name)))
    module.task, data.task, data.batch_size = task, task, batch_size
    if by_length:
        module.curves[f"test_{task.metrics[0].name}_by_length"] = by_length
        beyond = [score for length, score in by_length if length > run.length]
        present = [score for score in beyond if score is not None]
        if beyond and len(present) == len(beyond):
            found["test_score_beyond"] = sum(present) / len(present)
    return found


def _trainer(resources: ResourceSpec, **options: Any) -> lightning.Trainer:
    ranks = resources.devices * resources.nodes
    strategy = resources.strategy
    trainer = lightning.Trainer(
        accelerator="gpu" if on_cuda(resources) else "cpu",
        devices=resources.devices,
        num_nodes=resources.nodes,
        strategy="ddp" if strategy == "auto" and ranks > 1 else strategy,
        # The launcher starts the ranks and tells them their places by RANK and WORLD_SIZE. Were
        # nothing said, Lightning would look for Slurm and take its signals and its ranks.
        plugins=[TorchElasticEnvironment() if ranks > 1 else LightningEnvironment(), WholeFiles()],
        max_epochs=1,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,  # it repeats samples; the orders in data.py do not
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        **options,
    )
    # Lightning would take SIGTERM, and talk to the other ranks in its handler.
    signals: Any = trainer._signal_connector
    signals.register_signal_handlers = lambda: None
    return trainer


@contextmanager
def _quiet() -> Iterator[None]:
    """Without Lightning's announcements, its advice, and its own deprecations.

    It cannot know that the order of the batches goes on where it was, nor that it is no business of
    ours to be started by srun.
    """
    logger = logging.getLogger("lightning.pytorch")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*does not have many workers.*")
            warnings.filterwarnings("ignore", message=".*LeafSpec.*is deprecated.*")
            warnings.filterwarnings("ignore", message=".*your dataloader is not resumable.*")
            warnings.filterwarnings("ignore", message=".*`srun` command is available.*")
            yield
    finally:
        logger.setLevel(level)
