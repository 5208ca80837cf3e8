"""Streaming: the time of a token and the bytes of the state after P tokens, and whether they grow.

The body alone, without embedding and head, as initialised, in evaluation mode and without gradient,
in the run's precision. Its stream is read by the parallel pass up to each position (stream_reading)
and single steps are timed there (stream_timing): a step of a batch of 64 is one token for each of
64 streams, and each waits for it that long.

The state grows if it is larger at the last position than at the one before: a window's cache that
is full at the second position is flat. The time of a step grows if its slope against the position
is positive with its whole interval, and if the last position takes longer than the first by more
than noise. Noise is what throughput takes for it: at least 1.1 times, and three times the gap
between two timings of the same position.

P position: tokens read so far.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch

from architectures.body import Body, UnsupportedError
from bench.measure.metrics import Metrics
from bench.measure.resampling import Floats, interval, resampled_medians
from bench.measure.stream_reading import Source, max_length, read
from bench.measure.stream_timing import AHEAD, Lane, drift, stepper_for, time_steps
from bench.measure.throughput import synchroniser
from bench.records.noise import least_ratio
from bench.spec import Run
from bench.training import products
from bench.training.execute import device_of, diagnose, prepare
from bench.training.precision import lowering, whole_dtype

BATCHES = (1, 64)
STATE_GROWTH = 1.01  # from one position to the next; states have no noise, but may have counters
DRIFT_WINDOW = 64
DRIFT_TOKENS = 100_000  # more are too many for one parallel pass
DRIFT_S = 20.0  # for both passes together, as estimated from the times of steps

Verdict = Literal["flat", "growing"]


@dataclass(frozen=True)
class Protocol:
    """What is measured and for how long."""

    positions: tuple[int, ...]
    reading_s: float
    seconds: float  # of single steps at each position
    min_rounds: int
    clock: Callable[[], float] = time.perf_counter


def measure(
    run: Run,
    positions: Sequence[int] | None = None,
    reading_s: float | None = None,
    batches: Sequence[int] = BATCHES,
) -> Metrics:
    """Latency, state and drift of a run's body, as `stream_...` and `stream64_...` of 64 streams.

    `positions` and `reading_s` (seconds to reach them) are those of the run if None.

    Raises:
        UnsupportedError: the body reads ahead.
    """
    device = device_of(run)
    products.settle(device)
    model = prepare(run).to(device).model
    if not model.body.causal:
        raise UnsupportedError(f"{run.architecture} reads ahead and cannot stream")
    body = model.body.to(whole_dtype(run.training.precision)).eval()
    found: Metrics = {}
    protocol = Protocol(
        tuple(sorted(set(run.measure.stream_positions if positions is None else positions))),
        run.measure.stream_reading_s if reading_s is None else reading_s,
        run.measure.seconds_per_cell,
        run.measure.min_rounds,
    )
    with torch.no_grad(), lowering(run.training.precision, device):
        for batch in batches:
            found |= stream(body, source_for(body, batch, run.seed), protocol)
        p50_us = {
            position: float(value)
            for position in protocol.positions
            if isinstance(value := found.get(f"stream_us_p50_at_{position}"), float)
        }
        found |= drift_from_parallel(body, source_for(body, 1, run.seed), p50_us)
    return found


def source_for(body: Body, batch: int, seed: int) -> Source:
    """Tokens where the body's parameters are."""
    weight = next(body.parameters(), torch.empty(0))
    generator = torch.Generator(weight.device).manual_seed(seed)
    return Source(batch, body.width, weight.dtype, generator)


def stream(body: Body, source: Source, protocol: Protocol) -> Metrics:
    """What is measured of one batch size."""
    name = "stream" if source.batch == 1 else f"stream{source.batch}"
    device = source.generator.device
    synchronise = synchroniser(device)
    reading = read(
        body,
        source,
        protocol.positions,
        limit_s=protocol.reading_s,
        ahead=AHEAD,
        synchronise=synchronise,
        clock=protocol.clock,
    )
    found: Metrics = {f"{name}_at_{p}_missing": reason for p, reason in reading.missing.items()}
    if not reading.snapshots:
        return {**found, f"{name}_missing": next(iter(reading.missing.values()))}
    tokens = [source.token() for _ in range(AHEAD)]
    states = [snapshot.state for snapshot in reading.snapshots]
    stepper, ungraphed = stepper_for(body, states, tokens[0], device)
    found[f"{name}_method"] = stepper.method
    if ungraphed and device.type == "cuda":
        found[f"{name}_graph_missing"] = ungraphed
    lanes = []
    while reading.snapshots:
        # The first position is timed twice, as if it were two.
        lanes = [Lane(snapshot) for snapshot in (*reading.snapshots, reading.snapshots[0])]
        try:
            time_steps(
                stepper,
                lanes,
                tokens,
                seconds=protocol.seconds,
                min_rounds=protocol.min_rounds,
                synchronise=synchronise,
                clock=protocol.clock,
            )
            break
        except Exception as error:
            if diagnose(error)[0] != "oom":
                raise
            position = reading.snapshots.pop().position
            found[f"{name}_at_{position}_missing"] = (
                f"out of memory in steps after {position} tokens"
            )
    else:
        return {**found, f"{name}_missing": "out of memory in steps after the first position"}
    timed = {lane.snapshot.position: lane.blocks for lane in lanes[:-1]}
    for lane in lanes[:-1]:
        found |= _at(name, lane)
    found[f"{name}_blocks_rejected"] = sum(len(lane.rejected) for lane in lanes)
    sizes = {snapshot.position: snapshot.state_bytes for snapshot in reading.snapshots}
    return found | _state(name, sizes) | _latency(name, timed, lanes[-1].blocks)


def _at(name: str, lane: Lane) -> Metrics:
    position, blocks = lane.snapshot.position, lane.blocks
    low, high = interval(resampled_medians(blocks))
    p50, p99 = np.percentile(blocks, [50, 99])
    return {
        f"{name}_us_p50_at_{position}": 1e6 * float(p50),
        f"{name}_us_p50_at_{position}_low": 1e6 * low,
        f"{name}_us_p50_at_{position}_high": 1e6 * high,
        f"{name}_us_p99_at_{position}": 1e6 * float(p99),
        f"{name}_state_bytes_at_{position}": lane.snapshot.state_bytes,
    }


def _state(name: str, sizes: Mapping[int, int]) -> Metrics:
    """The slope of the state's bytes against the position, and whether they grow to the end."""
    if len(sizes) < 2:
        return {f"{name}_state_verdict_missing": "one position alone shows no growth"}
    values = np.array([[size] for size in sizes.values()], dtype=np.float64)
    before, last = list(sizes.values())[-2:]
    verdict: Verdict = "growing" if last > STATE_GROWTH * before else "flat"
    return {
        f"{name}_state_bytes_per_token": float(slopes(list(sizes), values)[0]),
        f"{name}_state_verdict": verdict,
    }


def _latency(name: str, timed: Mapping[int, Floats], again: Floats) -> Metrics:
    """The slope of a step's time against the position, and whether it is growth."""
    if len(timed) < 2:
        return {f"{name}_latency_verdict_missing": "one position alone shows no growth"}
    positions, blocks = list(timed), list(timed.values())
    medians = [float(np.median(each)) for each in blocks]
    pair = medians[0], float(np.median(again))
    noise = least_ratio([max(pair) / min(pair)])
    # Positions are resampled apart from each other.
    resampled = np.stack([resampled_medians(each, seed) for seed, each in enumerate(blocks)])
    slope = slopes(positions, np.array(medians)[:, None])[0]
    low, high = interval(slopes(positions, resampled))
    ratio = medians[-1] / medians[0]
    verdict: Verdict = "growing" if low > 0 and ratio > noise else "flat"
    return {
        f"{name}_us_per_1000_tokens_read": 1e9 * float(slope),
        f"{name}_us_per_1000_tokens_read_low": 1e9 * low,
        f"{name}_us_per_1000_tokens_read_high": 1e9 * high,
        f"{name}_latency_ratio": ratio,
        f"{name}_latency_noise": noise,
        f"{name}_latency_verdict": verdict,
    }


def slopes(positions: Sequence[int], values: Floats) -> Floats:
    """The least-squares slope of each column of values (n_positions, n) against the position."""
    centred = np.asarray(positions, dtype=np.float64)
    centred -= centred.mean()
    found: Floats = centred @ values / (centred @ centred)
    return found


def drift_from_parallel(body: Body, source: Source, p50_us: Mapping[int, float]) -> Metrics:
    """The drift over the tokens before the last position at which both passes can be afforded.

    `p50_us` has the microseconds of a step at the positions that were reached.
    """
    affordable, seconds, previous = [], 0.0, 0
    for position, us in p50_us.items():
        # The parallel pass takes no longer than the stream.
        seconds += 2 * 1e-6 * us * (position - previous)
        previous = position
        if seconds <= DRIFT_S and position <= min(DRIFT_TOKENS, max_length(body) or math.inf):
            affordable.append(position)
    reason = f"no position can be read twice in {DRIFT_S:g} s"
    for position in reversed(affordable):
        try:
            value = drift(body, source(position), min(DRIFT_WINDOW, position))
        except Exception as error:
            if diagnose(error)[0] != "oom":
                raise
            reason = f"out of memory in one pass over {position} tokens"
            continue
        return {f"stream_drift_at_{position}": value}
    return {"stream_drift_missing": reason}
