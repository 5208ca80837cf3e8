"""Tasks small enough to look at whole, and what their tests read of them."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import tasks
import tasks.task
from tasks import TASKS
from tasks.adding import Adding
from tasks.mqar import Mqar
from tasks.parity import Parity
from tasks.selective_copy import SelectiveCopy
from tasks.task import (
    UNSCORED,
    Batch,
    GeneratedTask,
    MissingPackageError,
    Split,
    Task,
    Tokens,
    generator,
)
from tests import task_cases

FOLDER = Path(tasks.task.__file__).parent
# Small enough that a slow solver reads hundreds, hard enough that nothing is trivial.
EXAMPLES: dict[str, Task] = {
    "adding": Adding(length=33),
    "digits": TASKS["digits"](length=64),
    "mqar": Mqar(length=64, n_pairs=4, vocabulary=66),
    "parity": Parity(length=63),
    "python_bytes": TASKS["python_bytes"](length=100),
    "selective_copy": SelectiveCopy(length=43, n_data=5, vocabulary=9),
    "smnist5k": TASKS["smnist5k"](length=196),
    **task_cases.by_name("EXAMPLES"),
}
LENGTHS: dict[str, list[int]] = {
    "adding": [2, 3, 65],
    "digits": [16, 64, 256, 1024],
    "mqar": [16, 18, 128],
    "parity": [1, 2, 65],
    "python_bytes": [1, 63, 1000],
    "selective_copy": [33, 34, 129],
    "smnist5k": [49, 196, 784, 3136, 12544],
    **task_cases.by_name("LENGTHS"),
}
REQUIRED: dict[str, dict[str, Any]] = task_cases.by_name("REQUIRED")
"""Fields without a default."""
LARGEST: dict[str, float] = task_cases.by_name("LARGEST")
"""Real inputs of other tasks are 3 at most: of the order of 1, as initialisations expect."""
PERFECT: dict[str, Callable[[Tensor], Tensor]] = task_cases.by_name("PERFECT")
"""The right answers of tasks whose targets are real numbers and not these answers themselves."""
GENERATED = [name for name, cls in TASKS.items() if issubclass(cls, GeneratedTask)]
REAL = [name for name in TASKS if name not in GENERATED]
STANDARD_ERRORS = 3.0


def take(task: Task, split: Split, indices: Tensor | int, seed: int = 0) -> Batch:
    """Examples of a task, or skip where its data is not installed."""
    if isinstance(indices, int):
        indices = torch.arange(indices)
    try:
        return task.examples(split, seed, indices)
    except MissingPackageError as error:
        pytest.skip(str(error))


def rows(batch: Batch) -> list[bytes]:
    """Each example as bytes."""
    return [
        inputs.numpy().tobytes() + targets.numpy().tobytes()
        for inputs, targets in zip(batch.inputs, batch.targets, strict=True)
    ]


def input_digests(batch: Batch) -> set[bytes]:
    return {hashlib.sha256(inputs.numpy().tobytes()).digest() for inputs in batch.inputs}


def nothing(targets: Tensor) -> float:
    """What stands in targets that are not scored."""
    return UNSCORED if targets.dtype == torch.int64 else math.nan


def n_of(task: Task, split: Split, at_most: int) -> int:
    size = task.size(split)
    return at_most if size is None else min(size, at_most)


def answers(task: Task, batch: Batch, seed: int) -> Tensor:
    """What an untrained network of seeded weights makes of a batch, as the task's kind has it."""
    rng, width = generator("untrained", seed), 16
    if isinstance(task.inputs, Tokens):
        symbols = batch.inputs.flatten(1)  # (B, T), of a pair (B, 2T)
        x = torch.randn(task.inputs.vocabulary, width, generator=rng)[symbols]
    else:
        weights = torch.randn(task.length, task.inputs.channels, width, generator=rng)
        x = torch.einsum("btc,tcd->btd", batch.inputs, weights)
    past = x.cumsum(1) / torch.arange(1, x.shape[1] + 1)[:, None].sqrt()  # (B, T, width)
    hidden = torch.tanh(x + past)
    if task.kind in ("per_sequence", "pair"):
        hidden = hidden.mean(1)
    if task.kind == "seq2seq":
        places = torch.randn(batch.targets.shape[1], width, generator=rng)
        hidden = torch.tanh(hidden.mean(1, keepdim=True) + places)  # (B, S, width)
    hidden = hidden - hidden.mean(0)  # else one class wins everywhere
    return hidden @ torch.randn(width, task.n_outputs, generator=rng)


def within(observed: float, expected: float, standard_error: float) -> bool:
    """Whether a frequency is what it should be, up to three standard errors."""
    return abs(observed - expected) <= STANDARD_ERRORS * standard_error
