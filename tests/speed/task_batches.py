"""How fast tasks yield batches on one core, the data already in memory.

    python tests/speed/task_batches.py

prints batches of 32 x 256 tokens per second for every task, median of rounds in which the tasks
take turns, read in order as a training run reads them; at least 50 are wanted. Images come at the
nearest length with a side (smnist5k: 196), words have 20 letters. One's own files are left out.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable
from typing import cast

import torch

from tasks import TASKS
from tasks.data import token_classes
from tasks.data.errors import DataError
from tasks.task import MissingPackageError, Task

BATCH = 32
LENGTHS = {"psmnist": 196, "smnist": 196, "smnist5k": 196, "image": 256, "g2p": 20}
LENGTHS |= {"pathfinder": 1024, "pathx": 16384}
REQUIRED: dict[str, dict[str, object]] = {"text_file": {"path": os.__file__}}
# Drawn once and then read from the cache, as all later epochs and runs do; how fast they are drawn
# is what tests/speed/pathfinder_images.py prints.
REQUIRED |= {name: {"n_train": BATCH} for name in ("pathfinder", "pathx")}
WANTED_PER_S = 50
ROUNDS = 5
ROUND_S = 0.3


def batches_per_s(task: Task, first: int) -> tuple[float, int]:
    """Read for a while from batch `first` on; return the speed and the next unread batch."""
    size = task.size("train")
    start, number = time.perf_counter(), first
    while (passed := time.perf_counter() - start) < ROUND_S:
        indices = torch.arange(number * BATCH, (number + 1) * BATCH)
        task.examples("train", 0, indices if size is None else indices % size)
        number += 1
    return (number - first) / passed, number


def main() -> None:
    """Print one line per task and a summary."""
    torch.set_num_threads(1)
    speeds: dict[str, list[float]] = {}
    following: dict[str, int] = {}
    made: dict[str, Task] = {}
    for name, cls in TASKS.items():
        if name in ("conllu_file", "csv_classification"):  # one's own files
            continue
        make = cast("Callable[..., Task]", cls)
        task = make(length=LENGTHS.get(name, 256), **REQUIRED.get(name, {}))
        started = time.perf_counter()
        try:
            task.examples("train", 0, torch.arange(BATCH))
        except (MissingPackageError, DataError) as error:
            print(f"{name:16} skipped: {error}")
            continue
        if name == "python_tokens":
            token_classes.read(name)["train"].complete()
        print(f"{name:16} first batch, data read: {1000 * (time.perf_counter() - started):6.1f} ms")
        made[name], speeds[name], following[name] = task, [], 1
    for _ in range(ROUNDS):
        for name, task in made.items():
            speed, following[name] = batches_per_s(task, following[name])
            speeds[name].append(speed)
    medians = {name: statistics.median(found) for name, found in speeds.items()}
    for name, found in speeds.items():
        print(
            f"{name:16} {medians[name]:8.0f} batches/s of {BATCH} x {made[name].length}"
            f"  (rounds {min(found):.0f}..{max(found):.0f})"
        )
    slowest = min(medians, key=medians.__getitem__)
    verdict = "ok" if medians[slowest] >= WANTED_PER_S else "TOO SLOW"
    print(
        f"{verdict}: slowest is {slowest} with {medians[slowest]:.0f} batches/s, "
        f"wanted {WANTED_PER_S}"
    )


if __name__ == "__main__":
    main()
