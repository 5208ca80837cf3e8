"""Checkpoints: what a run needs to go on after any step as if it had never stopped.

Lightning dumps and restores weights, optimiser, schedule and its loops; the module adds its curves
and pending losses, the data module its step, `BestOnVal` the best weights. Random numbers need no
state: every step seeds them anew. A checkpoint is made between two steps, never in the handler of a
signal, and the run goes on bit for bit from it, as long as the code and its packages are the same:
a checkpoint of others is passed over.
"""

from __future__ import annotations

import io
import time
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO
from lightning.pytorch.trainer.states import TrainerFn
from torch import distributed, nn

from bench.errors import UserError
from bench.process import say
from bench.records import checkpoints as places
from bench.records.files import write_atomically
from bench.training import interrupts, watchdog

CODE = ("git_commit", "git_dirty", "versions")
"""The parts of a provenance that have to be equal for a run to go on."""

LAST_SHARE = 0.1
"""The part of the time between two checkpoints after which the end of training is worth one."""


class Checkpoints:
    """The checkpoints of one run, and what this process took up from them."""

    def __init__(self, folder: Path, provenance: Mapping[str, Any]) -> None:
        self.folder = folder
        self.code = {key: provenance.get(key) for key in CODE}
        self.continued = 0  # times that the run was taken up from a checkpoint
        self.seconds = 0.0  # of training before that

    def newest(self, module: nn.Module) -> Path | None:
        """The newest one that is whole and of this code; every rank takes rank 0's choice."""
        ranks = distributed.get_world_size() if distributed.is_initialized() else 1
        if ranks == 1 or distributed.get_rank() == 0:
            found = self._choose(module)
        if ranks > 1:
            shared = [found if distributed.get_rank() == 0 else None]
            distributed.broadcast_object_list(shared, src=0)
            found = shared[0]
        if found is None:
            return None
        path, state = found
        self.continued, self.seconds = state["continued"] + 1, state["seconds"]
        return Path(path)

    def _choose(self, module: nn.Module) -> tuple[str, dict[str, Any]] | None:
        expected = {name: tensor.shape for name, tensor in module.state_dict().items()}
        for path in places.found(self.folder):
            try:
                with zipfile.ZipFile(path) as archive:  # torch's format; torch checks no sums
                    if archive.testzip() is not None:
                        raise ValueError("its sum is wrong")
                state = torch.load(path, map_location="cpu", weights_only=True)
                own = state["callbacks"][StepBoundary.__qualname__]
                shapes = {name: tensor.shape for name, tensor in state["state_dict"].items()}
                if own["code"] != self.code or shapes != expected:
                    raise ValueError("it is of other code or other packages")
            except Exception as error:  # whatever is wrong, the one before it may be right
                say(f"{path} is passed over: {type(error).__name__}: {error}")
                continue
            say(f"goes on from {path}")
            return str(path), own
        return None


class WholeFiles(TorchCheckpointIO):
    """Writes a checkpoint whole or not at all, and says so where it cannot: training goes on."""

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None
    ) -> None:
        """Write, and do not raise: the other ranks wait at a barrier for this one."""
        content = io.BytesIO()
        try:
            torch.save(checkpoint, content)
            write_atomically(Path(path), content.getbuffer())
        except (UserError, MemoryError, RuntimeError) as error:
            say(f"no checkpoint: {error}; training goes on without it")


class StepBoundary(lightning.Callback):
    """What happens between two steps: a sign of life, a checkpoint, and leaving if asked to."""

    def __init__(self, checkpoints: Checkpoints | None, every_s: float) -> None:
        self.checkpoints, self.every_s = checkpoints, every_s
        self._begun = time.perf_counter()
        self._saved = time.monotonic()
        self._saved_step = 0

    def state_dict(self) -> dict[str, Any]:
        """What the next process has to know."""
        assert self.checkpoints is not None
        return {
            "code": self.checkpoints.code,
            "continued": self.checkpoints.continued,
            "seconds": self.checkpoints.seconds + time.perf_counter() - self._begun,
        }

    def on_train_batch_start(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Evaluation after the step before, if there was one, has ended."""
        self._pass(trainer, self.every_s)

    def on_train_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule
    ) -> None:
        """A test that is stopped does not cost the training."""
        self._pass(trainer, LAST_SHARE * self.every_s)

    def on_test_start(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule
    ) -> None:
        """Within training, leave at the next step; after it, now: nothing is left to keep."""
        watchdog.beat()
        leave = interrupts.requested() is not None
        if trainer.state.fn == TrainerFn.FITTING:
            return
        if trainer.world_size > 1:
            (leave,) = _agreed(trainer, leave)
        if leave:
            raise interrupts.Interrupted

    on_validation_start = on_test_start

    def on_test_batch_start(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Ranks may have unequal numbers of batches, so that here they cannot agree."""
        watchdog.beat()
        alone = trainer.world_size == 1 and trainer.state.fn != TrainerFn.FITTING
        if alone and interrupts.requested() is not None:
            raise interrupts.Interrupted

    on_validation_batch_start = on_test_batch_start

    def _pass(self, trainer: lightning.Trainer, every_s: float) -> None:
        watchdog.beat()
        leave = interrupts.requested() is not None
        due = trainer.is_global_zero and time.monotonic() - self._saved >= every_s
        if trainer.world_size > 1:
            leave, due = _agreed(trainer, leave, due)
        if (leave or due) and self.checkpoints is not None:
            self._save(trainer, self.checkpoints)
        if leave:
            raise interrupts.Interrupted

    def _save(self, trainer: lightning.Trainer, checkpoints: Checkpoints) -> None:
        if trainer.global_step > self._saved_step:
            path = places.file_of(checkpoints.folder, trainer.global_step)
            trainer.save_checkpoint(path, weights_only=False)
            if trainer.is_global_zero:
                places.drop_older(checkpoints.folder)
        self._saved, self._saved_step = time.monotonic(), trainer.global_step


def _agreed(trainer: lightning.Trainer, *flags: bool) -> list[bool]:
    """Whether any rank says so, for each flag."""
    raised = torch.tensor(flags, dtype=torch.int32, device=trainer.strategy.root_device)
    distributed.all_reduce(raised, op=distributed.ReduceOp.MAX)
    return [bool(flag) for flag in raised.tolist()]
