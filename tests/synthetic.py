"""Rows of runs that never ran, for the tests of tables and reports. Every number is invented."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from bench.records import packed
from bench.records.row import Row, Scored, Status
from bench.records.store import Store, canonical
from bench.records.tidy import tidy
from bench.spec import Run, parse_run
from bench.study import Study

ARCHITECTURES = ("rnn", "lstm", "gru", "lstm_stack", "s4d", "mamba", "transformer")
LENGTHS = (128, 512, 2048, 8192)
TASKS = {
    "adding": Scored(metric="mse", unit="", higher_is_better=False, chance=0.167),
    "mqar": Scored(metric="accuracy", unit="fraction", higher_is_better=True, chance=0.0156),
}
# A study that is quick to write and has every status in it.
SMALL: dict[str, Any] = {"architectures": ("rnn", "lstm", "transformer"), "lengths": (128, 8192)}
KERNELS = {
    "lstm": "onednn",
    "gru": "onednn",
    "rnn": "aten",
    "lstm_stack": "onednn",
    "transformer": "sdpa",
}
PROVENANCE = {
    "device": "cpu",
    "processor": "Imaginary 9000",
    "cores": 2,
    "python": "3.11.2",
    "git_commit": "0123456789abcdef0123456789abcdef01234567",
    "git_dirty": False,
    "versions": {"torch": "2.13.0", "seqbench": "0.1.0"},
}


def run(architecture: Any = "lstm", task: Any = "mqar", length: int = 128, **more: Any) -> Run:
    """A training run."""
    given = {"architecture": architecture, "task": task, "length": length, **more}
    return parse_run({"training": {"steps": 300}, **given})


def measuring(architecture: Any = "lstm", task: Any = "mqar", length: int = 128) -> Run:
    """A run that only measures."""
    measure = {"instruments": ["throughput", "memory"]}
    return run(architecture, task, length, training={"steps": 0}, measure=measure)


def row(run: Run, status: Status = "ok", **changes: Any) -> Row:
    """What `run` might have left."""
    ok = status == "ok"
    metrics = (_trained(run) if run.purpose == "train" else _measured(run)) if ok else {}
    if not ok and status != "unsupported":
        metrics = {"parameters": 50_000}
    given: dict[str, Any] = {
        "id": run.id,
        "study": "synthetic",
        "status": status,
        "reason": "" if ok else f"it was {status}",
        "run": run.model_dump(mode="json"),
        "scored": TASKS.get(run.task.name, TASKS["mqar"]) if run.purpose == "train" else None,
        "kernel": KERNELS.get(run.architecture.name, "reference"),
        "metrics": metrics,
        "curves": _curves(run) if ok and run.purpose == "train" else {},
        "provenance": PROVENANCE,
    }
    return Row.model_validate({**given, **changes})


def study(runs: Iterable[Run], folder: Path, **changes: Any) -> Study:
    """A study of these runs."""
    given: dict[str, Any] = {
        "name": "synthetic",
        "folder": folder,
        "title": "Seven architectures at four lengths",
        "question": "Which one should I use at this length, and how sure are we?",
        "runs": tuple(runs),
    }
    return Study(**{**given, **changes})


def runs(
    architectures: Iterable[Any] = ARCHITECTURES,
    tasks: Iterable[Any] = TASKS,
    lengths: Iterable[int] = LENGTHS,
    seeds: int = 3,
    learning_rates: Iterable[float] = (0.001,),
) -> list[Run]:
    """The runs of a whole study, each cell trained and measured."""
    lengths, learning_rates, tasks = list(lengths), list(learning_rates), list(tasks)
    found = []
    for architecture in architectures:
        for task in tasks:
            for length in lengths:
                for rate in learning_rates:
                    training = {"steps": 300, "learning_rate": rate}
                    found += [
                        run(architecture, task, length, seed=seed, training=training)
                        for seed in range(seeds)
                    ]
                found.append(measuring(architecture, task, length))
    return found


def came(runs: Iterable[Run]) -> Iterator[Row]:
    """Rows for the runs, as they come in life: some out of memory, some diverged, some missing."""
    for one in runs:
        name, length = one.architecture.name, one.length
        if name == "transformer" and length == 8192:
            yield row(one, "oom", reason="out of memory: 9.1 GiB asked, 7.6 GiB free")
        elif name == "rnn" and length == 2048 and one.seed == 1 and one.purpose == "train":
            yield row(one, "diverged", reason="the loss became nan at step 120")
        elif name == "lstm_stack" and one.task.name == "mqar" and one.purpose == "train":
            yield row(one, "unsupported", reason="lstm_stack is not causal, mqar needs it")
        elif not (name == "mamba" and length == 8192 and one.task.name == "mqar"):
            yield row(one)


def fill(store: Store, runs: Iterable[Run]) -> None:
    """The rows that came, live."""
    for one in came(runs):
        store.write(one)


def pack(store: Store, rows: Iterable[Row]) -> None:
    """Packed at once: thousands of files would take longer than everything else."""
    ordered = sorted(rows, key=lambda row: row.id)
    store.folder.mkdir(parents=True, exist_ok=True)
    store.packed_file.write_bytes(packed.encode(tidy(ordered), [canonical(row) for row in ordered]))


def _trained(run: Run) -> dict[str, Any]:
    rng = random.Random(f"{run.id} trained")
    skill = 1 / (1 + (run.length / (100 * 4 ** (_rank(run) / 2))) ** 0.8)
    skill = min(1.0, max(0.0, skill + rng.gauss(0, 0.03)))
    scored = TASKS.get(run.task.name, TASKS["mqar"])
    chance = scored.chance or 0.0
    score = chance + (1 - chance) * skill if scored.higher_is_better else chance * (1 - skill)
    return {
        "test_score": score,
        "val_score": score + rng.gauss(0, 0.005),
        "steps_done": 300,
        "best_step": 270,
        "train_seconds": 12.5,
        "observed_train_tokens_per_s": 1e5 * rng.random(),
        **_size(run),
    }


def _measured(run: Run) -> dict[str, Any]:
    rng = random.Random(f"{run.id} measured")
    slow = 1 + run.length / 1000 if run.architecture.name == "transformer" else 1.0
    train = 4e4 * (1 + _rank(run) / 2) / slow * rng.uniform(0.95, 1.05)
    infer = train * 3.1
    return {
        "train_tokens_per_s": train,
        "train_tokens_per_s_low": train * 0.96,
        "train_tokens_per_s_high": train * 1.03,
        "infer_tokens_per_s": infer,
        "infer_tokens_per_s_low": infer * 0.97,
        "infer_tokens_per_s_high": infer * 1.02,
        "step_ms_p50": 41.5,
        "rounds": 11,
        "noise_floor": 1.02,
        "peak_bytes": int(2e7 + 900 * run.length * slow),
        **_size(run),
    }


def _size(run: Run) -> dict[str, Any]:
    grows = run.length * 512 if run.architecture.name == "transformer" else 1024
    return {"parameters": 50_000 + 100 * _rank(run), "width": 64, "state_bytes": grows}


def _curves(run: Run) -> dict[str, list[tuple[float, float]]]:
    rng = random.Random(f"{run.id} curves")
    end = float(_trained(run)["val_score"])
    steps = range(30, 301, 30)
    return {
        "train_loss": [(step, 3.0 / step**0.5) for step in steps],
        "val_score": [(step, end * (1 - 20 / step) + rng.gauss(0, 0.01)) for step in steps],
    }


def _rank(run: Run) -> int:
    name = run.architecture.name
    return ARCHITECTURES.index(name) if name in ARCHITECTURES else 3
