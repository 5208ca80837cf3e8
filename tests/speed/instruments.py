"""Whether the instruments cost nothing when they are off, and tell the truth when they are on.

    python tests/speed/instruments.py            # off, and against a loop written by hand
    python tests/speed/instruments.py --twice    # also: a small speed study, measured twice

off         the share of a training run's time, under the Trainer, that passes in bench/measure
by hand     steps of a loop that a person would write, timed between the blocks of the throughput
            instrument: the 95 % intervals of the two medians have to overlap
twice       the same cells in two sweeps: the intervals have to overlap in nine tenths of them, if
            the machine is quiet: if its reference work took the same time in both. A pair of
            sweeps between which the machine itself changed says nothing of the instrument, and is
            made again, TRIES times at most; what is apart by no more than the machine is counted

Prints ratios and shares; exits 1 if one is broken, 3 if the machine was never quiet. One thread.
"""

from __future__ import annotations

import argparse
import cProfile
import pstats
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

import bench.measure
from bench.launch import sweep
from bench.launch.progress import Progress
from bench.measure.step import TrainingStep
from bench.measure.throughput import (
    WallClock,
    interleave,
    interval_of_median,
    summarise,
    warm_up,
)
from bench.records import noise
from bench.records.row import Row
from bench.records.store import Store
from bench.spec import Run, parse_run
from bench.training.execute import prepare
from bench.training.fit import fit
from bench.training.optimiser import make_optimiser

OFF_BOUND = 0.01
TWICE_BOUND = 0.9
QUIET_DRIFT = 1.02  # of the reference work, from one sweep to the other
TRIES = 6
NEVER_QUIET = 3  # exit code
TRAINING = {"steps": 150, "batch_size": 16, "val_every": 150}
SECONDS = 6.0
ROUNDS = 15


def a_run(architecture: str = "lstm", length: int = 128, **changes: object) -> Run:
    task = {"name": "parity", "n_val": 1, "n_test": 1}
    given = {"architecture": architecture, "task": task, "length": length, "width": 64}
    return parse_run({**given, **changes})


def share_of_measuring_code() -> float:
    """The time that passes below functions of bench/measure, by that of the training run."""
    prepared = prepare(a_run(training=TRAINING))
    profile = cProfile.Profile()
    profile.enable()
    fit(prepared.run, prepared.task, prepared.model)
    profile.disable()
    folder = str(Path(next(iter(bench.measure.__path__))))
    stats = pstats.Stats(profile)
    inside = sum(
        cumulative
        for (file, _, _), (_, _, _, cumulative, _) in stats.stats.items()  # type: ignore[attr-defined]
        if file.startswith(folder)
    )
    return inside / stats.total_tt  # type: ignore[attr-defined,no-any-return]


def hand_written(run: Run) -> Callable[[], None]:
    """One training step as a person would write it."""
    prepared = prepare(run)
    model, task, batch = prepared.model, prepared.task, prepared.batch()
    optimiser = make_optimiser(model, run.training)
    model.train()

    def step() -> None:
        outputs, _ = model(batch.inputs)
        loss, count = task.loss(outputs, batch.targets)
        optimiser.zero_grad()
        (loss / count).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), run.training.clip_norm or 1.0)
        optimiser.step()

    return step


class Beside(WallClock):
    """Times as many steps of another loop after each block, in turns who is first."""

    def __init__(self, other: Callable[[], None]) -> None:
        self.other, self.seen = other, list[float]()

    def seconds(self, step: Callable[[], None], n_steps: int) -> float:
        """Seconds per step of the first; those of the other are kept."""
        if len(self.seen) % 2:
            self.seen.append(super().seconds(self.other, n_steps))
            return super().seconds(step, n_steps)
        found = super().seconds(step, n_steps)
        self.seen.append(super().seconds(self.other, n_steps))
        return found


def against_a_loop(architecture: str) -> bool:
    """Whether the instrument and the loop agree on one architecture's training step."""
    run = a_run(architecture, training={"steps": 0, "batch_size": 16}, measure=timing())
    clock = Beside(hand_written(run))
    timed = warm_up(TrainingStep(prepare(run)), clock)
    clock.seen.clear()
    interleave([timed], clock, SECONDS, ROUNDS)
    found = summarise(timed.samples)
    hand = np.asarray(clock.seen)
    low, high = interval_of_median(hand)
    agree = low <= found.high and found.low <= high
    print(
        f"by hand   {architecture:12} instrument {1e3 * found.p50:.2f} "
        f"[{1e3 * found.low:.2f}, {1e3 * found.high:.2f}] ms, loop {1e3 * np.median(hand):.2f} "
        f"[{1e3 * low:.2f}, {1e3 * high:.2f}] ms, ratio {found.p50 / np.median(hand):.3f}: "
        f"{'agree' if agree else 'do NOT agree'}"
    )
    return bool(agree)


def timing(seconds: float = 1.0) -> dict[str, object]:
    return {"instruments": ["throughput"], "seconds_per_cell": seconds}


def measured(folder: Path) -> dict[str, Row]:
    """The rows of a small speed study."""
    store = Store(folder)
    runs = tuple(
        a_run(name, length, training={"steps": 0, "batch_size": 8}, measure=timing())
        for name in ("lstm", "gru", "mingru", "transformer")
        for length in (64, 256)
    )
    with Progress(len(runs), 0, 1) as progress:
        sweep.sweep("twice", store, sweep.Plan((), runs, 0), 1, progress)
    return {row.id: row for row in store.rows()}


@dataclass(frozen=True)
class Pair:
    """Two sweeps of the same cells."""

    drift: float  # of the machine
    overlapping: float  # the share of the numbers whose intervals do


def twice(first: dict[str, Row], second: dict[str, Row]) -> Pair:
    """Print how far each number is from itself."""
    agree: list[bool] = []
    beyond = 0
    for key, one in first.items():
        rows = (one, second[key])
        floors, references = (
            [row.metrics[name] for row in rows] for name in ("noise_floor", "reference_ms")
        )
        for what in ("train", "infer"):
            name = f"{what}_tokens_per_s"
            a, b = (
                [float(row.metrics[f"{name}{end}"] or 0) for end in ("", "_low", "_high")]
                for row in rows
            )
            agree.append(a[1] <= b[2] and b[1] <= a[2])
            beyond += noise.differ(a[0], b[0], floors, references)
            print(
                f"twice     {one.run['architecture']['name']:12} {one.run['length']:4} {what} "
                f"ratio {a[0] / b[0]:.3f} {'' if agree[-1] else '(apart)'}"
            )
    drift = noise.drift(references)
    overlapping = sum(agree) / len(agree)
    print(
        f"twice     {overlapping:.2f} of the intervals overlap, {beyond} of {len(agree)} numbers "
        f"differ by more than noise; the machine itself by {drift:.3f}"
    )
    return Pair(drift, overlapping)


def judged_twice() -> Pair | None:
    """The first pair of sweeps of a quiet machine; None if it never was."""
    with tempfile.TemporaryDirectory() as folder:
        earlier = measured(Path(folder) / "0")
        for again in range(1, TRIES + 1):
            later = measured(Path(folder) / str(again))
            pair = twice(earlier, later)
            if pair.drift <= QUIET_DRIFT:
                return pair
            earlier = later
    return None


def main() -> int:
    """Measure, print, judge."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--twice", action="store_true")
    again = parser.parse_args().twice
    torch.set_num_threads(1)
    share = share_of_measuring_code()
    print(f"off       {share:.4f} of the time in bench/measure (bound {OFF_BOUND})")
    met = [share < OFF_BOUND, *(against_a_loop(name) for name in ("lstm", "transformer"))]
    if again:
        pair = judged_twice()
        if pair is None:
            print(f"twice     not judged: the machine changed by more than {QUIET_DRIFT} each time")
            return NEVER_QUIET
        met.append(pair.overlapping >= TWICE_BOUND)
        print(f"twice     {pair.overlapping:.2f} of the intervals overlap (bound {TWICE_BOUND})")
    print("met" if all(met) else "NOT met")
    return 0 if all(met) else 1


if __name__ == "__main__":
    sys.exit(main())
