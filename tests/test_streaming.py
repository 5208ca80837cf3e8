"""Streaming: what grows is called growing, what is flat flat, and a drift is as large as it is."""

import math
import sys
import types

import pytest
import torch

from architectures.body import UnsupportedError
from bench.measure import stream_timing
from bench.measure.resampling import interval, resampled_medians
from bench.measure.stream_timing import AHEAD, PlainStep, drift, stepper_for
from bench.measure.streaming import drift_from_parallel, measure, source_for
from bench.spec import parse_run
from tests.streamed import POSITIONS, Clock, Synthetic, streamed

ROUNDING = 1e-12  # of a few float64 operations


@pytest.fixture(autouse=True)
def _undisturbed(monkeypatch):
    """Synthetic clocks do not wait for a CPU."""
    monkeypatch.setattr(stream_timing, "_waited_for_cpu_s", lambda: 0.0)


def test_a_flat_state_of_flat_cost_is_flat():
    found = streamed(Synthetic(clock := Clock()), clock)
    assert found["stream_state_verdict"] == found["stream_latency_verdict"] == "flat"
    assert found["stream_state_bytes_per_token"] == 0
    assert found["stream_latency_ratio"] == pytest.approx(1.0)
    assert [found[f"stream_state_bytes_at_{p}"] for p in POSITIONS] == [5 * 8] * 4
    for position in POSITIONS:
        assert found[f"stream_us_p50_at_{position}"] == pytest.approx(1000.0)


@pytest.mark.parametrize("batch", [1, 3])
def test_a_state_that_keeps_every_token_is_growing_by_their_bytes(batch):
    found = streamed(Synthetic(clock := Clock(), keeps=10**6), clock, batch)
    name = "stream" if batch == 1 else f"stream{batch}"
    assert found[f"{name}_state_verdict"] == "growing"
    assert found[f"{name}_latency_verdict"] == "flat"
    assert found[f"{name}_state_bytes_per_token"] == pytest.approx(batch * 4 * 8)
    for position in POSITIONS:
        assert found[f"{name}_state_bytes_at_{position}"] == batch * 8 * (5 + 4 * position)


def test_a_window_that_is_full_is_flat():
    found = streamed(Synthetic(clock := Clock(), keeps=50), clock)
    assert found["stream_state_bytes_at_1"] < found["stream_state_bytes_at_300"]
    assert found["stream_state_verdict"] == "flat"


def test_a_step_whose_cost_grows_is_growing_with_its_slope():
    found = streamed(Synthetic(clock := Clock(), lambda p: 1e-3 + 2e-6 * p), clock)
    assert found["stream_latency_verdict"] == "growing"
    assert found["stream_us_per_1000_tokens_read"] == pytest.approx(2000.0)
    low, high = (found[f"stream_us_per_1000_tokens_read_{end}"] for end in ("low", "high"))
    assert (low, high) == (pytest.approx(2000.0), pytest.approx(2000.0))
    assert found["stream_us_p50_at_300"] == pytest.approx(1000 + 2 * 300, rel=0.05)


def test_less_growth_than_noise_is_flat():
    found = streamed(Synthetic(clock := Clock(), lambda p: 1e-3 * (1 + 0.05 * (p > 1000))), clock)
    assert found["stream_us_per_1000_tokens_read_low"] > 0
    assert found["stream_latency_ratio"] == pytest.approx(1.05)
    assert found["stream_latency_verdict"] == "flat"


def test_growth_is_judged_by_the_gap_between_two_timings_of_one_position():
    body = Synthetic(clock := Clock(), lambda p: 1e-3 * (1 + 0.5 * (p > 1000)))
    assert streamed(body, clock)["stream_latency_verdict"] == "growing"
    # The last of the five lanes of a round is the first position again; it is 1.2 times slower.
    body.noise = iter([1.0] * 4 + ([1.0] * 4 * AHEAD + [1.2] * AHEAD) * 5)
    found = streamed(body, clock)
    assert found["stream_latency_noise"] == pytest.approx(1.6)
    assert found["stream_latency_ratio"] == pytest.approx(1.5)
    assert found["stream_latency_verdict"] == "flat"


def test_a_step_is_timed_at_its_position_and_not_after_all_the_others():
    seen = set()

    def cost(position):
        seen.add(position)
        return 1e-3

    streamed(Synthetic(clock := Clock(), cost), clock)
    assert seen == {p + n for p in POSITIONS for n in range(AHEAD + 1)}


def test_the_tail_is_the_tail():
    body = Synthetic(clock := Clock())
    # One step in thirty takes ten times as long: seen in the 99th percentile and not in the median.
    body.noise = iter([10.0 if n % 30 == 0 else 1.0 for n in range(100_000)])
    found = streamed(body, clock)
    assert found["stream_us_p50_at_300"] == pytest.approx(1000.0)
    assert found["stream_us_p99_at_300"] > 5000


def test_the_interval_of_the_median_holds_it():
    rng = torch.Generator().manual_seed(0)
    blocks = torch.randn(40, 16, generator=rng, dtype=torch.float64).numpy() + 7
    low, high = interval(resampled_medians(blocks))
    assert low < 7 < high
    assert 0.05 < high - low < 0.4  # 4 standard errors of a median: 4 * 1.25 / sqrt(640) = 0.2


def test_a_position_beyond_the_time_is_missing_with_its_reason():
    body = Synthetic(clock := Clock(), pass_s=1e-2)
    found = streamed(body, clock, reading_s=5.0)
    assert "stream_us_p50_at_300" in found
    assert "stream_us_p50_at_3000" not in found
    assert "3000 tokens take longer" in found["stream_at_3000_missing"]
    # It is not begun where even the fastest chunk so far would not reach it.
    assert clock.now < 5.0


def test_a_position_beyond_the_memory_is_missing_with_its_reason():
    body = Synthetic(clock := Clock())
    read = body.read

    def small(x, state):
        if state is not None and state[0][0] > 700:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory")
        return read(x, state)

    body.read = small
    found = streamed(body, clock, positions=(1, 30, 600, 900))
    assert found["stream_at_900_missing"] == "out of memory after 899 tokens"
    assert found["stream_state_verdict"] == "flat"


def test_a_position_whose_steps_are_beyond_the_memory_is_missing_and_others_are_not():
    body = Synthetic(clock := Clock())

    def cost(position):
        if position > 900:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory")
        return 1e-3

    body.cost = cost
    found = streamed(body, clock, positions=(1, 30, 900))
    assert found["stream_at_900_missing"] == "out of memory in steps after 900 tokens"
    assert found["stream_us_p50_at_30"] == pytest.approx(1000.0)
    assert "stream_us_p50_at_900" not in found


def test_another_error_is_no_reason():
    body = Synthetic(clock := Clock())
    body.cost = lambda position: 1 / 0
    with pytest.raises(ZeroDivisionError):
        streamed(body, clock)


def test_positions_end_where_the_body_says():
    body = Synthetic(clock := Clock())
    body.max_length = 300 + AHEAD - 1
    found = streamed(body, clock)
    assert found["stream_at_300_missing"] == f"the body's positions end at {300 + AHEAD - 1}"
    assert "stream_us_p50_at_30" in found


def test_one_position_has_no_verdict():
    found = streamed(Synthetic(clock := Clock()), clock, positions=(7,))
    assert "stream_state_verdict" not in found
    assert "one position" in found["stream_state_verdict_missing"]


@pytest.mark.parametrize("error", [0.0, 1e-3, -0.25])
def test_the_drift_of_a_body_that_is_wrong_by_a_known_amount_is_that_amount(error):
    body = Synthetic(Clock(), error=error)
    source = source_for(body, 1, 0)
    with torch.no_grad():
        assert drift(body, source(101), 64) == pytest.approx(abs(error), abs=ROUNDING)
        found = drift_from_parallel(body, source, {1: 1.0, 30: 1.0, 300: 1.0, 3000: 1e9})
    assert found == {"stream_drift_at_300": pytest.approx(abs(error), abs=ROUNDING)}


def test_a_drift_that_nobody_can_wait_for_is_missing():
    body = Synthetic(Clock())
    found = drift_from_parallel(body, source_for(body, 1, 0), {1000: 1e9})
    assert found == {"stream_drift_missing": "no position can be read twice in 20 s"}


def fake_graphs(monkeypatch, factor):
    """A module of graphs whose replays are wrong by a factor."""

    class CaptureError(RuntimeError):
        pass

    class GraphedStep:
        def __init__(self, body, x_t, state):
            if factor is None:
                raise CaptureError("it waits for the device")
            self.body, self.state = body, state

        def reset(self, state):
            self.state = state

        def __call__(self, x_t):
            y_t, self.state = self.body.step(x_t, self.state)
            return factor * y_t

    module = types.ModuleType("graphs")
    module.CaptureError, module.GraphedStep = CaptureError, GraphedStep
    monkeypatch.setitem(sys.modules, "architectures.kernels.cuda", types.ModuleType("cuda"))
    monkeypatch.setitem(sys.modules, "architectures.kernels.cuda.graphs", module)


@pytest.mark.parametrize(
    ("factor", "method", "reason"),
    [
        (1.0, "cuda-graph", ""),
        (1.1, "step", "the graph's outputs differ from the step's by 0.1"),
        (math.nan, "step", "the graph's outputs differ from the step's by nan"),
        (None, "step", "it waits for the device"),
    ],
)
def test_a_graph_takes_the_steps_if_it_can_and_is_right(monkeypatch, factor, method, reason):
    fake_graphs(monkeypatch, factor)
    body = Synthetic(Clock())
    x_t = source_for(body, 1, 0).token()
    with torch.no_grad():
        _, state = body.step(x_t)
        stepper, why = stepper_for(body, [state], x_t, torch.device("cuda"))
    assert (stepper.method, why) == (method, reason)


def test_a_graph_takes_the_state_of_every_position(monkeypatch):
    fake_graphs(monkeypatch, 1.0)
    body = Synthetic(Clock())
    x_t = source_for(body, 1, 0).token()
    with torch.no_grad():
        _, state = body.step(x_t)
        graphed = sys.modules["architectures.kernels.cuda.graphs"].GraphedStep

        def reset(self, given):
            if given is not state:
                raise ValueError("the state is of another shape")
            self.state = given

        monkeypatch.setattr(graphed, "reset", reset)
        _, later = body.step(x_t, state)
        stepper, why = stepper_for(body, [state, later], x_t, torch.device("cuda"))
    assert (stepper.method, why) == ("step", "the state is of another shape")


def test_a_growing_state_has_no_graph():
    body = Synthetic(Clock())
    body.state_grows = True
    x_t = source_for(body, 1, 0).token()
    stepper, reason = stepper_for(body, [None], x_t, torch.device("cuda"))
    assert isinstance(stepper, PlainStep)
    assert "grows" in reason


def a_run(architecture, **training):
    return parse_run(
        {
            "architecture": architecture,
            "task": "parity",
            "length": 16,
            "width": 16,
            "training": {"steps": 0, **training},
            "measure": {
                "instruments": ["throughput"],
                "seconds_per_cell": 1e-3,
                "min_rounds": 3,
            },
        }
    )


@pytest.mark.parametrize(
    ("architecture", "verdict"), [("lstm", "flat"), ("mamba", "flat"), ("transformer", "growing")]
)
def test_states_of_architectures_are_what_theory_says(architecture, verdict):
    found = measure(a_run(architecture), positions=(1, 9, 50), batches=(1, 3))
    assert found["stream_state_verdict"] == found["stream3_state_verdict"] == verdict
    assert found["stream3_state_bytes_at_50"] == 3 * found["stream_state_bytes_at_50"]
    assert found["stream_drift_at_50"] < 1e-4
    assert found["stream_method"] == "step"


def test_a_stream_is_of_the_runs_precision():
    low = measure(a_run("gru", precision="bf16-true"), positions=(1, 9), batches=(1,))
    whole = measure(a_run("gru"), positions=(1, 9), batches=(1,))
    assert 2 * low["stream_state_bytes_at_9"] == whole["stream_state_bytes_at_9"]


def test_what_reads_ahead_cannot_stream():
    with pytest.raises(UnsupportedError, match="transformer_bidirectional reads ahead"):
        measure(a_run("transformer_bidirectional"))
