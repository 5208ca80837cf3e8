"""Batches in an order that depends on (seed, step) alone, split over devices without repetition."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

import lightning
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from bench.spec import Run
from tasks.task import Batch, Split, Task, generator

CARRIED_EXAMPLES = 8
"""Examples through which a state is carried: a cache of attention grows by all of them."""


class TaskData(Dataset[Batch]):
    """A split of a task, indexed by whole batches of example numbers."""

    def __init__(self, task: Task, split: Split, seed: int) -> None:
        self.task, self.split, self.seed = task, split, seed

    def __getitem__(self, indices: Tensor) -> Batch:
        return self.task.examples(self.split, self.seed, indices)


class TrainOrder(Sampler[Tensor]):
    """Example numbers of each training batch: this device's share of the global batch.

    An endless split is read from the beginning; a finite one in a new order every epoch. A run that
    goes on from a checkpoint begins at the step `start`; its batches are those that are left.
    """

    def __init__(
        self,
        size: int | None,
        batch_size: int,
        steps: int,
        seed: int,
        rank: int,
        world_size: int,
        *,
        start: int = 0,
    ) -> None:
        self.size, self.batch_size, self.steps, self.seed = size, batch_size, steps, seed
        self.rank, self.world_size, self.start = rank, world_size, start

    def __len__(self) -> int:
        """All steps, those before `start` too: Lightning counts them as done."""
        return self.steps

    def __iter__(self) -> Iterator[Tensor]:
        for step in range(self.start, self.steps):
            positions = torch.arange(step * self.batch_size, (step + 1) * self.batch_size)
            # Neighbours on one device: a generated task draws them in blocks.
            yield self._examples(positions).tensor_split(self.world_size)[self.rank]

    def _examples(self, positions: Tensor) -> Tensor:
        if self.size is None:
            return positions
        epochs = positions // self.size
        chosen = torch.empty_like(positions)
        for epoch in epochs.unique().tolist():
            here = epochs == epoch
            chosen[here] = _order(self.size, self.seed, epoch)[positions[here] % self.size]
        return chosen


@lru_cache(maxsize=2)
def _order(size: int, seed: int, epoch: int) -> Tensor:
    return torch.randperm(size, generator=generator("order", seed, epoch))


class EvaluationOrder(Sampler[Tensor]):
    """Every example of a split once, over all devices together."""

    def __init__(self, size: int, batch_size: int, rank: int, world_size: int) -> None:
        mine = torch.arange(rank, size, world_size)
        self.batches = mine.split(batch_size) if len(mine) else ()

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[Tensor]:
        return iter(self.batches)


class CarriedOrder(Sampler[Tensor]):
    """Every example of a contiguous split once, as streams side by side.

    Stream s holds the examples s * W to s * W + W - 1, W = `CARRIED_EXAMPLES`. Batch after batch
    gives the next example of each stream, so that a state can pass from batch to batch;
    `begins` says of each batch whether its streams begin.
    """

    def __init__(self, size: int, batch_size: int, rank: int, world_size: int) -> None:
        self.batches: list[Tensor] = []
        begins: list[bool] = []
        n_whole, rest = divmod(size, CARRIED_EXAMPLES)
        groups = [
            (streams, CARRIED_EXAMPLES)
            for streams in torch.arange(n_whole)[rank::world_size].split(batch_size)
        ]
        if rest and n_whole % world_size == rank:
            groups.append((torch.tensor([n_whole]), rest))
        for streams, n_examples in groups:
            for place in range(n_examples if len(streams) else 0):
                self.batches.append(streams * CARRIED_EXAMPLES + place)
                begins.append(place == 0)
        self.begins = tuple(begins)

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[Tensor]:
        return iter(self.batches)


class TaskDataModule(lightning.LightningDataModule):
    """The three splits of a run's task."""

    def __init__(self, run: Run, task: Task) -> None:
        super().__init__()
        self.run, self.task = run, task
        self.batch_size = run.training.sequences(run.length)
        self.carries = False  # whether test is read as streams
        self.start = 0  # steps that were taken before this process

    def state_dict(self) -> dict[str, int]:
        """Where the order stands; a batch that is drawn and not yet learned from is drawn again."""
        assert self.trainer is not None
        return {"step": self.trainer.global_step}

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        """Go on from there."""
        self.start = state_dict["step"]

    def train_dataloader(self) -> DataLoader[Batch]:
        """`steps` batches."""
        rank, world_size = self._place()
        order = TrainOrder(
            self.task.size("train"),
            self.batch_size,
            self.run.training.steps,
            self.run.seed,
            rank,
            world_size,
            start=self.start,
        )
        return self._loader("train", order)

    def val_dataloader(self) -> DataLoader[Batch]:
        """The whole val split."""
        return self._evaluation("val")

    def test_dataloader(self) -> DataLoader[Batch]:
        """The whole test split."""
        return self._loader("test", self.carried()) if self.carries else self._evaluation("test")

    def carried(self) -> CarriedOrder:
        """The order of the test split as streams, on this device."""
        rank, world_size = self._place()
        per_device = max(1, self.batch_size // world_size)
        return CarriedOrder(self._size("test"), per_device, rank, world_size)

    def _evaluation(self, split: Split) -> DataLoader[Batch]:
        rank, world_size = self._place()
        per_device = max(1, self.batch_size // world_size)
        return self._loader(split, EvaluationOrder(self._size(split), per_device, rank, world_size))

    def _size(self, split: Split) -> int:
        size = self.task.size(split)
        assert size is not None, "evaluation splits are finite"
        return size

    def _loader(self, split: Split, order: Sampler[Tensor]) -> DataLoader[Batch]:
        data = TaskData(self.task, split, self.run.seed)
        # The sampler yields whole batches of indices, which the data set takes as one index.
        return DataLoader(data, batch_size=None, sampler=order)

    def _place(self) -> tuple[int, int]:
        if self.trainer is None:
            return 0, 1
        return self.trainer.global_rank, self.trainer.world_size
