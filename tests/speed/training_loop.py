"""What Lightning's loop costs: a training step under the Trainer against a plain PyTorch loop.

Both train the same model on the same batches with the same optimiser, schedule and clipping, in
turns. Prints the times of a step and their ratio, with an A/A ratio of the plain loop as the noise
floor; exits 1 if the Trainer adds more than a twentieth.

    python tests/speed/training_loop.py
"""

from __future__ import annotations

import sys
import time

import lightning
import numpy as np
import torch

from bench.spec import Run, parse_run
from bench.training.data import TaskDataModule
from bench.training.execute import Prepared, prepare
from bench.training.fit import fit
from bench.training.module import TrainingModule
from bench.training.optimiser import make_optimiser, make_schedule

STEP_S = 0.020
STEPS = 40
ROUNDS = 9
BOUND = 1.05


def a_run(batch_size: int) -> Run:
    training = {"steps": STEPS, "batch_size": batch_size, "val_every": STEPS, "warmup_steps": 4}
    task = {"name": "parity", "n_val": 1, "n_test": 1}
    return parse_run(
        {"architecture": "lstm", "task": task, "length": 128, "width": 64, "training": training}
    )


def plain_loop(prepared: Prepared) -> float:
    """Seconds per step of a loop that a person would write."""
    training, model, task = prepared.run.training, prepared.model, prepared.task
    optimiser = make_optimiser(model, training)
    schedule = make_schedule(optimiser, training)
    batches = TaskDataModule(prepared.run, task).train_dataloader()
    model.train()
    begun = time.perf_counter()
    for batch in batches:
        outputs, _ = model(batch.inputs)
        loss, count = task.loss(outputs, batch.targets)
        optimiser.zero_grad()
        (loss / count).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), training.clip_norm or 1.0)
        optimiser.step()
        schedule.step()
    return (time.perf_counter() - begun) / STEPS


class Clock:
    """Notes when the Trainer begins its first step and ends its last."""

    begun = ended = 0.0

    def install(self) -> None:
        """Put the clock into the module's hooks."""

        def start(module: lightning.LightningModule) -> None:
            self.begun = time.perf_counter()

        def first_look(module: lightning.LightningModule) -> None:
            self.ended = time.perf_counter()  # the only validation comes right after the last step

        TrainingModule.on_train_epoch_start = start  # type: ignore[method-assign]
        TrainingModule.on_validation_start = first_look  # type: ignore[method-assign]


def trainer_loop(prepared: Prepared, clock: Clock) -> float:
    """Seconds per step under lightning.Trainer, as the harness uses it."""
    seen: list[float] = []

    def note(module: TrainingModule, split: str) -> None:
        seen.append(clock.ended - clock.begun)
        module.scores[f"{split}_accuracy"] = 0.5

    TrainingModule._close = note  # type: ignore[method-assign]
    fit(prepared.run, prepared.task, prepared.model)
    return seen[0] / STEPS


def main() -> int:
    """Calibrate, take turns, print."""
    torch.set_num_threads(1)
    batch_size = 8
    while plain_loop(prepare(a_run(batch_size))) < STEP_S:
        batch_size += max(1, batch_size // 4)
    run = a_run(batch_size)
    clock = Clock()
    clock.install()
    times: dict[str, list[float]] = {"plain": [], "trainer": [], "plain again": []}
    for _ in range(ROUNDS):
        times["plain"].append(plain_loop(prepare(run)))
        times["trainer"].append(trainer_loop(prepare(run), clock))
        times["plain again"].append(plain_loop(prepare(run)))
    medians = {name: float(np.median(values)) for name, values in times.items()}
    for name, seconds in medians.items():
        spread = np.percentile(times[name], [25, 75]) * 1e3
        print(
            f"{name:12} {1e3 * seconds:7.2f} ms/step  (quartiles {spread[0]:.2f}-{spread[1]:.2f})"
        )
    noise = medians["plain again"] / medians["plain"]
    plain = (medians["plain"] + medians["plain again"]) / 2
    ratio = medians["trainer"] / plain
    print(f"A/A {noise:.3f}")
    met = ratio <= BOUND
    print(f"trainer / plain = {ratio:.3f} (bound {BOUND}): {'met' if met else 'NOT met'}")
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
