"""A measuring session: the throughput of many cells, interleaved in one process, as rows.

A row's noise floor is the ratio of the medians of one cell that is timed as if it were two. The
reference is work that is the same in all sessions (`bench.measure.reference`).

Numbers of a session:

step_ms_p50, _p90, _p99; infer_ms_p50, _p90, _p99   of blocks: a block is a mean over its steps
first_step_ms, first_infer_ms       the first of each, which compiles and allocates, apart
train_tokens_per_s, infer_tokens_per_s, each with _low and _high    by the median and its interval
rounds, rounds_rejected, rounds_outlying            blocks of the training step: used; lost to other
                                    processes; used although far from the median
infer_rounds, infer_rounds_rejected, infer_rounds_outlying
interval_met                        1 if both intervals became as narrow as `PRECISION` asks
noise_floor, reference_ms, tokens_per_batch, steps_per_block
and those of `bench.measure.utilisation`
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from bench.measure import calibrate, utilisation
from bench.measure.instruments import THROUGHPUT, Found, merged
from bench.measure.metrics import Metrics
from bench.measure.reference import Reference
from bench.measure.step import InferenceStep, TrainingStep
from bench.measure.throughput import (
    Clock,
    Summary,
    Timed,
    clock_of,
    interleave,
    is_precise,
    summarise,
    warm_up,
)
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
    alone: Mapping[str, Mapping[str, Found]],
) -> list[Row]:
    """Measure runs side by side; `alone` has what other instruments found before, by run id.

    All runs have equal resources and equal `measure` settings. A run whose throughput is among
    what was found is not timed: it did not survive that.
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
            outcome.add_metrics({"state_bytes": measured_state_bytes(prepared)})
            asked = THROUGHPUT in run.measure.instruments
            if asked and THROUGHPUT not in alone.get(run.id, {}):
                cells.append(_cell(outcome, prepared, clock_of(device)))
    if cells:
        _time(cells, clock_of(device), runs[0], device)
    for run, outcome in zip(runs, outcomes, strict=True):
        _conclude(outcome, alone.get(run.id, {}))
    return [outcome.row() for outcome in outcomes]


def _conclude(outcome: Outcome, found: Mapping[str, Found]) -> None:
    """Add what the other instruments found: a run ends badly only if nothing was measured."""
    outcome.add_metrics(merged(found))
    measured = any(one.metrics is not None for one in found.values())
    if outcome.status != "ok" and measured:
        what = THROUGHPUT if THROUGHPUT in outcome.run.measure.instruments else "state_bytes"
        outcome.add_metrics({f"{what}_missing": f"{outcome.status}: {outcome.reason}"})
        outcome.end("ok", "")
    elif outcome.status == "ok" and not measured and "step_ms_p50" not in outcome.known["metrics"]:
        first = next(iter(found.values()))
        outcome.end(first.status, first.reason, first.log_tail)


def _cell(outcome: Outcome, prepared: Prepared, clock: Clock) -> Cell:
    train = warm_up(TrainingStep(prepared), clock)
    return Cell(outcome, prepared, train, warm_up(InferenceStep(prepared), clock))


def _time(cells: list[Cell], clock: Clock, run: Run, device: torch.device) -> None:
    again = warm_up(cells[0].train.step, clock)
    reference = warm_up(Reference(device), clock)
    timed = [step for cell in cells for step in (cell.train, cell.infer)]
    all_timed = [*timed, again, reference]
    interleave(all_timed, clock, run.measure.seconds_per_cell, run.measure.min_rounds)
    first, second = summarise(cells[0].train.samples).p50, summarise(again.samples).p50
    of_session: Metrics = {
        "noise_floor": max(first, second) / min(first, second),
        "reference_ms": 1e3 * summarise(reference.samples).p50,
    }
    calibration = calibrate.remembered(device, run.resources.threads)
    for cell in cells:
        metrics = {**_metrics(cell), **of_session}
        used = utilisation.metrics(
            metrics,
            run=cell.prepared.run,
            body=cell.prepared.model.body,
            operations=cell.outcome.provenance["kernel_paths"],
            calibration=calibration,
        )
        cell.outcome.add_metrics({**metrics, **used})


def _metrics(cell: Cell) -> Metrics:
    run = cell.prepared.run
    tokens = run.training.sequences(run.length) * cell.prepared.task.tokens
    train, infer = summarise(cell.train.samples), summarise(cell.infer.samples)
    precise = is_precise(cell.train.samples) and is_precise(cell.infer.samples)
    return {
        **_times("step", "train", tokens, train),
        **_times("infer", "infer", tokens, infer),
        "rounds": train.rounds,
        "rounds_rejected": train.rejected,
        "rounds_outlying": train.outlying,
        "infer_rounds": infer.rounds,
        "infer_rounds_rejected": infer.rejected,
        "infer_rounds_outlying": infer.outlying,
        "interval_met": int(precise),
        "steps_per_block": cell.train.samples.steps_per_block,
        "tokens_per_batch": tokens,
    }


def _times(step: str, speed: str, tokens: int, found: Summary) -> Metrics:
    return {
        f"{step}_ms_p50": 1e3 * found.p50,
        f"{step}_ms_p90": 1e3 * found.p90,
        f"{step}_ms_p99": 1e3 * found.p99,
        f"first_{step}_ms": 1e3 * found.first,
        f"{speed}_tokens_per_s": tokens / found.p50,
        f"{speed}_tokens_per_s_low": tokens / found.high,
        f"{speed}_tokens_per_s_high": tokens / found.low,
    }
