"""Instruments: they time what they name, and know when a number is worth nothing."""

import subprocess
import sys
import time

import pytest
import torch

from bench.measure import session
from bench.measure.instruments import Found
from bench.measure.step import InferenceStep, TrainingStep
from bench.measure.throughput import (
    BLOCK_S,
    PRECISION,
    Samples,
    WallClock,
    interleave,
    is_precise,
    summarise,
    warm_up,
)
from bench.spec import parse_run
from bench.training.execute import prepare

MIB = 1 << 20


def a_run(architecture: str = "gru", **changes: object):
    base = {
        "architecture": architecture,
        "task": "parity",
        "length": 16,
        "width": 16,
        "training": {"steps": 0, "batch_size": 4},
        "measure": {"instruments": ["throughput"], "seconds_per_cell": 0.01, "min_rounds": 3},
    }
    return parse_run({**base, **changes})


CLOCK = WallClock()


class Scripted:
    """A clock that shows what it is told to, and calls nothing; at the end the last, for ever."""

    def __init__(self, *shown: float) -> None:
        self.shown, self.blocks = list(shown), 0

    def seconds(self, step: object, n_steps: int) -> float:
        self.blocks += 1
        return self.shown.pop(0) if len(self.shown) > 1 else self.shown[0]


def scripted(*shown: float, seconds_per_cell: float = 0.2, min_rounds: int = 3):
    """What is summarised of blocks that show this."""
    clock = Scripted(9.0, 0.06, *shown)
    timed = warm_up(lambda: None, clock)
    clock.blocks = 0
    interleave([timed], clock, seconds_per_cell, min_rounds)
    return timed.samples, clock


def test_a_block_is_long_enough_and_timed_at_once():
    blocks: list[int] = []

    class Counting(WallClock):
        def seconds(self, step, n_steps):
            blocks.append(n_steps)
            return super().seconds(step, n_steps)

    timed = warm_up(lambda: time.sleep(0.01), Counting())
    assert timed.samples.steps_per_block >= 2
    assert timed.samples.steps_per_block * 0.01 <= 2 * BLOCK_S
    blocks.clear()
    interleave([timed], Counting(), 0.01, 3)
    assert blocks[:3] == [timed.samples.steps_per_block] * 3


def test_rounds_end_early_where_all_agree_and_go_on_where_they_do_not(monkeypatch):
    monkeypatch.setattr("bench.measure.throughput._waited_for_cpu_s", lambda: 0.0)
    quiet, clock = scripted(0.06, seconds_per_cell=60.0, min_rounds=5)
    assert clock.blocks == 5
    assert is_precise(quiet)
    noisy = [0.06, 0.12] * 10**6
    wild, clock = scripted(*noisy, seconds_per_cell=0.5, min_rounds=5)
    assert clock.blocks > 5
    assert not is_precise(wild)


def test_precise_is_an_interval_within_the_stated_share_of_the_median():
    for spread, precise in ((0.9 * PRECISION, True), (1.1 * PRECISION, False)):
        samples = Samples(1.0, 1, seconds=[1.0 - spread, 1.0 + spread, 1.0] * 2)
        low, high = summarise(samples).low, summarise(samples).high
        assert (low, high) == (1.0 - spread, 1.0 + spread)
        assert is_precise(samples) == precise


def test_outlying_blocks_are_kept_and_counted():
    samples = Samples(1.0, 1, seconds=[1.0, 1.01, 0.99, 1.0, 1.02, 0.98, 1.01, 3.0])
    summary = summarise(samples)
    assert summary.outlying == 1
    assert summary.rounds == 8
    assert summary.p99 > 2.5


def test_the_first_step_is_reported_apart():
    slow_once = iter([0.1])
    timed = warm_up(lambda: time.sleep(next(slow_once, 0.001)), CLOCK)
    assert timed.samples.first_step_s >= 0.1
    interleave([timed], CLOCK, 0.01, 3)
    assert summarise(timed.samples).p50 < 0.05


def test_cells_are_interleaved_in_rounds():
    order: list[int] = []
    cells = []
    for name in range(3):

        def step(name: int = name) -> None:
            time.sleep(0.06)  # a block of its own
            order.append(name)

        cells.append(warm_up(step, CLOCK))
    order.clear()
    interleave(cells, CLOCK, 0.01, 3)
    assert order[:9] == [0, 1, 2] * 3


def test_a_sleep_of_known_length_is_measured_as_that():
    cells = [warm_up(lambda s=s: time.sleep(s), CLOCK) for s in (0.004, 0.016)]
    interleave(cells, CLOCK, 0.3, 5)
    fast, slow = (summarise(cell.samples) for cell in cells)
    assert slow.p50 / fast.p50 == pytest.approx(4.0, rel=0.25)
    assert fast.low <= fast.p50 <= fast.high
    assert fast.p50 <= fast.p90 <= fast.p99


def test_the_interval_is_that_of_the_median_and_repeats():
    samples = Samples(1.0, 1, seconds=[1.0, 1.1, 0.9, 1.0, 1.2, 1.0, 50.0])
    first, second = summarise(samples), summarise(samples)
    assert first == second
    assert 0.9 <= first.low <= 1.0 <= first.high <= 1.2  # one outlier does not move the median


def test_blocks_that_lost_the_processor_are_rejected_and_counted(monkeypatch):
    waited = iter([0.0, 1.0] + [0.0] * 100)
    monkeypatch.setattr("bench.measure.throughput._waited_for_cpu_s", lambda: next(waited))
    timed = warm_up(lambda: time.sleep(0.06), CLOCK)
    interleave([timed], CLOCK, 0.2, 3)
    assert len(timed.samples.rejected) == 1
    assert summarise(timed.samples).rejected == 1
    assert summarise(timed.samples).rounds == len(timed.samples.seconds) >= 3


def test_a_machine_that_is_never_quiet_does_not_hold_a_measurement_up(monkeypatch):
    clock = iter(range(10**9))
    monkeypatch.setattr("bench.measure.throughput._waited_for_cpu_s", lambda: next(clock))
    timed = warm_up(lambda: time.sleep(0.06), CLOCK)
    interleave([timed], CLOCK, 0.01, 3)
    assert timed.samples.seconds == []
    summary = summarise(timed.samples)
    assert summary.p50 > 0.05
    assert summary.rejected >= 3  # and the row says what the number is worth


@pytest.mark.parametrize("precision", ["32-true", "64-true", "bf16-true", "bf16-mixed"])
@pytest.mark.parametrize("task", ["adding", "parity"])
def test_the_steps_take_every_precision(task, precision):
    run = a_run(task=task, training={"steps": 0, "batch_size": 4, "precision": precision})
    prepared = prepare(run)
    TrainingStep(prepared)()
    InferenceStep(prepared)()


@pytest.mark.parametrize("name", ["gru", "transformer"])
def test_the_training_step_trains_and_the_inference_step_does_not(name):
    prepared = prepare(a_run(name))
    train, infer = TrainingStep(prepared), InferenceStep(prepared)
    before = [p.detach().clone() for p in prepared.model.parameters()]
    infer()
    assert all(map(torch.equal, before, prepared.model.parameters()))
    assert not prepared.model.training
    train()
    assert prepared.model.training
    assert not all(map(torch.equal, before, prepared.model.parameters()))


def test_a_session_gives_a_row_per_run_with_units_intervals_and_a_noise_floor():
    runs = [a_run("gru"), a_run("rnn")]
    known = {runs[0].id: {"memory": Found(metrics={"peak_bytes": 5})}}
    rows = session.measure(runs, "study", {"host": "here"}, known)
    assert [row.status for row in rows] == ["ok", "ok"]
    for row in rows:
        m = row.metrics
        assert (
            m["train_tokens_per_s_low"] <= m["train_tokens_per_s"] <= m["train_tokens_per_s_high"]
        )
        assert m["train_tokens_per_s"] == pytest.approx(64 / (m["step_ms_p50"] / 1e3))
        assert m["infer_tokens_per_s"] > m["train_tokens_per_s"]
        assert m["noise_floor"] >= 1.0
        assert m["reference_ms"] == rows[0].metrics["reference_ms"] > 0
        assert m["rounds"] >= 3
        assert m["infer_rounds"] >= 3
        assert m["infer_ms_p50"] <= m["infer_ms_p90"] <= m["infer_ms_p99"]
        assert m["first_infer_ms"] > 0
        assert m["rounds_rejected"] >= 0
        assert m["rounds_outlying"] >= 0
        assert "test_score" not in m
    assert rows[0].metrics["peak_bytes"] == 5
    assert "peak_bytes" not in rows[1].metrics


def test_a_cell_that_cannot_run_does_not_take_the_others_with_it():
    unsupported = a_run("bilstm_stack", task="python_bytes", length=64)
    rows = session.measure([unsupported, a_run("gru")], "study", {}, {})
    assert [row.status for row in rows] == ["unsupported", "ok"]
    assert "train_tokens_per_s" not in rows[0].metrics


KNOWN_ALLOCATIONS = """
import torch
torch.set_num_threads(1)
from bench.measure.memory import peak_resident_bytes
MIB = 1 << 20
def touched(mib): return torch.ones(mib * MIB // 4)
def spike():
    first = touched(100)
    second = touched(200)
    del second
    third = touched(50)
def many():
    held = [torch.ones(MIB // 16) for _ in range(480)]  # 120 MiB in blocks of 256 KiB
def small():
    held = [torch.ones(MIB // 128) for _ in range(60 * 32)]  # 60 MiB in blocks of 32 KiB
def rehearsal():
    touched(20)
    small()  # what it frees is not at hand for the action
for action in (lambda: touched(150), spike, many, small):
    print(peak_resident_bytes(action, rehearsal))
"""


def test_the_peak_of_known_allocations_is_found():
    """Within 2% or 4 MiB; a fresh process, as the sweep uses one."""
    done = subprocess.run(
        [sys.executable, "-c", KNOWN_ALLOCATIONS], capture_output=True, text=True, check=True
    )
    for found, known in zip(map(int, done.stdout.split()), (150, 300, 120, 60), strict=True):
        assert abs(found - known * MIB) < max(4 * MIB, 0.02 * known * MIB)


TRUNCATION = """
import sys, torch
torch.set_num_threads(1)
from bench.measure.memory import measure
from bench.spec import parse_run
window = int(sys.argv[1]) or None
run = parse_run({"architecture": "gru", "task": "parity", "length": 2048, "width": 64,
    "training": {"steps": 0, "batch_size": 8, "tbptt_window": window},
    "measure": {"instruments": ["memory"]}})
print(measure(run)["peak_bytes"])
"""


def test_truncated_backpropagation_takes_less_memory():
    full, truncated = (
        int(subprocess.check_output([sys.executable, "-c", TRUNCATION, window], text=True))
        for window in ("0", "64")
    )
    assert truncated < full / 3
