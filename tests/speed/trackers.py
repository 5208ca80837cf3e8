"""What trackers cost a run: the time of its training with both of them by that without.

    python tests/speed/trackers.py [WIDTH]

Trains one GRU in turns, alone and followed by W&B (offline) and TensorBoard, in a process of its
own each time. Prints for each the seconds that training took, as its row has them, and the ratio of
the medians; then the same for a tracker that does nothing, which shows the noise. The smaller the
steps the dearer a tracker: width 16 has steps of less than a millisecond.
"""

from __future__ import annotations

import multiprocessing
import statistics
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from bench.spec import parse_run
from bench.trackers import choice
from bench.trackers.follow import Followers

ROUNDS = 7
STEPS = 4000


def seconds(names: Sequence[str], width: int) -> float:
    """Of training one run."""
    import torch

    from bench.training.execute import execute

    torch.set_num_threads(1)
    training = {"steps": STEPS, "batch_size": 32, "val_every": STEPS}
    run = parse_run(
        {
            "architecture": "gru",
            "task": {"name": "parity", "n_val": 32, "n_test": 32},
            "length": 32,
            "width": width,
            "training": training,
        }
    )
    with tempfile.TemporaryDirectory() as folder:
        followers: Followers = choice.followers(names, Path(folder))
        row = execute(run, "speed", {}, followers=followers)
        followers.end(row)
    found = row.metrics["train_seconds"]
    assert isinstance(found, float), row.reason
    return found


def main() -> int:
    """Take turns and print."""
    width = int(sys.argv[1]) if len(sys.argv) > 1 else 16
    cases: dict[str, Sequence[str]] = {
        "alone": (),
        "alone again": (),
        "tensorboard": ("tensorboard",),
        "wandb": ("wandb",),
        "both": ("tensorboard", "wandb"),
    }
    found: dict[str, list[float]] = {name: [] for name in cases}
    context = multiprocessing.get_context("spawn")
    for _ in range(ROUNDS):
        for name, trackers in cases.items():
            with context.Pool(1) as pool:
                found[name].append(pool.apply(seconds, (trackers, width)))
    alone = statistics.median(found["alone"])
    for name, times in found.items():
        median = statistics.median(times)
        step_us = 1e6 * median / STEPS
        print(f"{name:12} {step_us:7.1f} us a step, ratio {median / alone:.4f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
