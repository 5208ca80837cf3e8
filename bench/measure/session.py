"""A measuring session: the throughput of many cells, interleaved in one process, as rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from bench.measure.step import InferenceStep, TrainingStep
from bench.measure.throughput import Timed, interleave, summarise, synchroniser, warm_up
from bench.records.row import Row
from bench.spec import Run
from bench.training.execute import (
    Outcome,
    Prepared,
    device_of,
    measured_state_bytes,
    prepare,
)


@dataclass(frozen=True)
class Cell:
    """The two steps of a run, under way."""

    outcome: Outcome
    prepared: Prepared
    train: Timed
    infer: Timed


def measure(
    runs: list[Run],
    study: str,
    provenance: Mapping[str, Any],
    memory: Mapping[str, Mapping[str, Any]],
) -> list[Row]:
    """Measure runs side by side; `memory` holds what was measured before, by run id.

    All runs have equal resources and equal `measure` settings.
    """
    outcomes = [Outcome(run, study, provenance) for run in runs]
    device = torch.device("cpu")
    cells: list[Cell] = []
    for run, outcome in zip(runs, outcomes, strict=True):
        with outcome.recorded():
            device = device_of(run)
            outcome.settle(device)
            prepared = prepare(run).to(device)
            outcome.describe(prepared)
            outcome.add_metrics(
                {"state_bytes": measured_state_bytes(prepared), **memory.get(run.id, {})}
            )
            if "throughput" in run.measure.instruments:
                cells.append(_cell(outcome, prepared, synchroniser(device)))
    if cells:
        _time(cells, synchroniser(device), runs[0])
    return [outcome.row() for outcome in outcomes]


def _cell(outcome: Outcome, prepared: Prepared, synchronise: Callable[[], None]) -> Cell:
    train = warm_up(TrainingStep(prepared), synchronise)
    return Cell(outcome, prepared, train, warm_up(InferenceStep(prepared), synchronise))


def _time(cells: list[Cell], synchronise: Callable[[], None], run: Run) -> None:
    again = warm_up(cells[0].train.step, synchronise)
    timed = [step for cell in cells for step in (cell.train, cell.infer)]
    interleave([*timed, again], synchronise, run.measure.seconds_per_cell, run.measure.min_rounds)
    first, second = summarise(cells[0].train.samples).p50, summarise(again.samples).p50
    noise_floor = max(first, second) / min(first, second)
    for cell in cells:
        cell.outcome.add_metrics({**_metrics(cell), "noise_floor": noise_floor})


def _metrics(cell: Cell) -> dict[str, float | int]:
    run = cell.prepared.run
    tokens = run.training.sequences(run.length) * cell.prepared.task.tokens
    train, infer = summarise(cell.train.samples), summarise(cell.infer.samples)
    return {
        "step_ms_p50": 1e3 * train.p50,
        "step_ms_p90": 1e3 * train.p90,
        "step_ms_p99": 1e3 * train.p99,
        "first_step_ms": 1e3 * train.first,
        "train_tokens_per_s": tokens / train.p50,
        "train_tokens_per_s_low": tokens / train.high,
        "train_tokens_per_s_high": tokens / train.low,
        "infer_ms_p50": 1e3 * infer.p50,
        "infer_tokens_per_s": tokens / infer.p50,
        "infer_tokens_per_s_low": tokens / infer.high,
        "infer_tokens_per_s_high": tokens / infer.low,
        "rounds": train.rounds,
        "rounds_rejected": train.rejected,
        "tokens_per_batch": tokens,
    }
