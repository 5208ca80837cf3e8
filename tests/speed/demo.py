"""How much faster the demo's training steps are with native kernels than with the reference.

    python tests/speed/demo.py

For every architecture of results/demo/study.yaml: one step (forward, backward, clipping, optimiser;
plain PyTorch, no trainer) at each of the demo's sizes, by native code and then as
SEQBENCH_KERNELS=reference has it, round after round in one process, one thread, its CPU time.
Prints the ratio of each architecture's total with a 95 % bootstrap interval of the median of
rounds, and the geometric mean of all. Architectures without native code are 1: they show the noise.
Takes some 20 s, most of them imports and preparation.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch
from scipy import stats

from architectures.body import UnsupportedError
from bench import study
from bench.measure.step import TrainingStep
from bench.spec import Run
from bench.training.execute import prepare

STUDY = Path(__file__).parents[2] / "results" / "demo"
CHOICES = ("auto", "reference")
SECONDS = 10.0  # after the imports, then no further round begins
MIN_ROUNDS = 3


def steps_by_architecture(runs: Iterable[Run]) -> dict[str, list[TrainingStep]]:
    """Of each training run of the first seed that is possible, in the order of the study."""
    found: dict[str, list[TrainingStep]] = {}
    for run in runs:
        if run.training.steps and run.seed == 0:
            with suppress(UnsupportedError):  # which the demo's table says too
                found.setdefault(run.architecture.name, []).append(TrainingStep(prepare(run)))
    return found


def seconds_of(steps: Iterable[TrainingStep], choice: str) -> float:
    """CPU seconds of one of each, with SEQBENCH_KERNELS, which every call reads, as chosen."""
    os.environ["SEQBENCH_KERNELS"] = choice
    begun = time.process_time()
    for step in steps:
        step()
    return time.process_time() - begun


def main() -> int:
    """Take turns until the time is over, and print."""
    begun = time.perf_counter()
    torch.set_num_threads(1)
    steps = steps_by_architecture(study.load(STUDY).runs)
    ratios: dict[str, list[float]] = {name: [] for name in steps}
    for choice in CHOICES:  # compiles, and warms up
        for name in steps:
            seconds_of(steps[name], choice)
    n_rounds = 0
    while n_rounds < MIN_ROUNDS or time.perf_counter() - begun < SECONDS:
        for name in steps:
            native, reference = (seconds_of(steps[name], choice) for choice in CHOICES)
            ratios[name].append(reference / native)
        n_rounds += 1
    print(f"training step, reference / native, {n_rounds} rounds")
    for name, values in ratios.items():
        interval = stats.bootstrap(
            (values,), np.median, method="percentile", rng=np.random.default_rng(0)
        ).confidence_interval
        print(f"{name:14} {np.median(values):5.2f}x ({interval.low:.2f}-{interval.high:.2f})")
    mean = stats.gmean([float(np.median(values)) for values in ratios.values()])
    print(
        f"demo: native kernels make its training steps {mean:.1f}x faster "
        f"(geometric mean of {len(ratios)} architectures)"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
