"""What trackers cost a run: CPU time of a training step with them by that without.

    python tests/speed/trackers.py [WIDTH]

Trains one GRU for few steps and for many, alone and followed by W&B (offline) and TensorBoard, in
turns and each time in a process of its own; the difference is that of the steps, without what
begins and ends a run. The CPU time is that of the process, the threads of its trackers included, so
that the ratio holds for a machine with one core; W&B's own process is told apart. The smaller the
steps the dearer a tracker: at width 16 a step takes about a millisecond. `alone again` shows the
noise.
"""

from __future__ import annotations

import multiprocessing
import os
import statistics
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from bench.spec import parse_run
from bench.trackers import choice

ROUNDS = 2
STEPS = (200, 1700)


def cpu_seconds(names: Sequence[str], width: int, steps: int) -> tuple[float, float]:
    """Of training one run: this process, and those that it started."""
    import torch

    from bench.training.execute import execute

    torch.set_num_threads(1)
    choice.check(names)  # imports, as the server that forks workers does
    run = parse_run(
        {
            "architecture": "gru",
            "task": {"name": "parity", "n_val": 32, "n_test": 32},
            "length": 32,
            "width": width,
            "training": {"steps": steps, "batch_size": 32, "val_every": steps},
        }
    )
    begun = os.times()
    with tempfile.TemporaryDirectory() as folder:
        followers = choice.followers(names, Path(folder))
        row = execute(run, "speed", {}, followers=followers)
        followers.end(row)
    assert row.status == "ok", row.reason
    ended = os.times()
    own = ended.user + ended.system - begun.user - begun.system
    return own, ended.children_user + ended.children_system


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
    own: dict[str, list[float]] = {name: [] for name in cases}  # us a step
    others: dict[str, list[float]] = {name: [] for name in cases}
    context = multiprocessing.get_context("spawn")
    for _ in range(ROUNDS):
        for name, trackers in cases.items():
            found = []
            for steps in STEPS:
                with context.Pool(1) as pool:
                    found.append(pool.apply(cpu_seconds, (trackers, width, steps)))
            (few, few_others), (many, many_others) = found
            own[name].append(1e6 * (many - few) / (STEPS[1] - STEPS[0]))
            others[name].append(1e6 * (many_others - few_others) / (STEPS[1] - STEPS[0]))
    alone = statistics.median(own["alone"])
    for name, times in own.items():
        median = statistics.median(times)
        print(
            f"{name:12} {median:7.1f} us a step, {median / alone:.4f} of alone; "
            f"{statistics.median(others[name]):5.1f} us in other processes"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
