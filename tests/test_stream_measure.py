"""What is streamed, what its drift may cost, and what its intervals are worth."""

import math

import numpy as np
import pytest
import torch

from bench.measure import stream_timing, streaming
from bench.measure.resampling import interval, resampled_medians
from bench.measure.stream_timing import AHEAD
from bench.measure.streaming import drift_from_parallel, measure, source_for
from bench.spec import parse_run
from tests.streamed import POSITIONS, Clock, Synthetic, streamed


def a_run(**training):
    return parse_run(
        {
            "architecture": {"name": "gru", "dropout": 0.5},
            "task": "parity",
            "length": 16,
            "width": 16,
            "training": {"steps": 0, **training},
            "measure": {
                "instruments": ["streaming"],
                "stream_positions": [20, 1],
                "stream_reading_s": 7.0,
                "seconds_per_cell": 3.0,
                "min_rounds": 4,
            },
        }
    )


@pytest.mark.parametrize(
    ("precision", "dtype", "lowered"),
    [
        ("32-true", torch.float32, False),
        ("bf16-true", torch.bfloat16, False),
        ("bf16-mixed", torch.float32, True),
    ],
)
def test_the_body_of_a_run_is_streamed_at_rest_as_the_run_says(
    monkeypatch, precision, dtype, lowered
):
    seen = []

    def stream(body, source, protocol):
        assert not body.training
        assert not torch.is_grad_enabled()
        assert torch.is_autocast_enabled("cpu") == lowered
        assert source.dtype == next(body.parameters()).dtype == dtype
        assert protocol.positions == (1, 20)
        assert (protocol.reading_s, protocol.seconds, protocol.min_rounds) == (7.0, 3.0, 4)
        seen.append(source.batch)
        name = "stream" if source.batch == 1 else f"stream{source.batch}"
        return {f"{name}_us_p50_at_20": float(source.batch)}

    monkeypatch.setattr(streaming, "stream", stream)
    monkeypatch.setattr(
        streaming, "drift_from_parallel", lambda body, source, p50_us: {"priced": p50_us}
    )
    found = measure(a_run(precision=precision))
    assert seen == [1, 64]
    assert found["priced"] == {20: 1.0}  # of one stream, as the drift is


def test_a_median_of_equal_times_has_no_width_in_any_unit():
    found = streamed(Synthetic(clock := Clock()), clock)
    for position in POSITIONS:
        name = f"stream_us_p50_at_{position}"
        assert found[f"{name}_low"] == pytest.approx(found[name])
        assert found[f"{name}_high"] == pytest.approx(found[name])


@pytest.mark.parametrize("second", [1.2, 1 / 1.2])
def test_a_second_timing_is_noise_whichever_way_it_differs(second, monkeypatch):
    monkeypatch.setattr(stream_timing, "_waited_for_cpu_s", lambda: 0.0)
    body = Synthetic(clock := Clock())
    body.noise = iter([1.0] * 4 + ([1.0] * 4 * AHEAD + [second] * AHEAD) * 5)
    assert streamed(body, clock)["stream_latency_noise"] == pytest.approx(1.6)


def test_rejected_blocks_are_counted_over_all_lanes(monkeypatch):
    total = iter(range(10**9))
    monkeypatch.setattr(stream_timing, "_waited_for_cpu_s", lambda: next(total))
    found = streamed(Synthetic(clock := Clock()), clock)
    assert found["stream_blocks_rejected"] >= 5 * (len(POSITIONS) + 1)


@pytest.mark.parametrize(
    ("p50_us", "expected"),
    [
        ({100: 5e4, 200: 7e4}, 100),  # 10 s, and 14 more
        ({100: 5e4, 200: 4e4}, 200),  # 10 s, and 8 more
        ({100: 1.5e5}, None),  # 15 s for each of two passes
        ({30: 1.0, 350: 1.0}, 30),  # more than one pass may read
    ],
)
def test_a_drift_may_cost_both_passes_over_all_of_its_tokens(monkeypatch, p50_us, expected):
    monkeypatch.setattr(streaming, "DRIFT_TOKENS", 300)
    body = Synthetic(Clock())
    with torch.no_grad():
        found = drift_from_parallel(body, source_for(body, 1, 0), p50_us)
    assert list(found) == [
        "stream_drift_missing" if expected is None else f"stream_drift_at_{expected}"
    ]


def test_a_drift_is_sought_where_the_body_has_positions():
    body = Synthetic(Clock())
    body.max_length = 100
    with torch.no_grad():
        found = drift_from_parallel(body, source_for(body, 1, 0), {30: 1.0, 300: 1.0})
    assert list(found) == ["stream_drift_at_30"]


def test_values_of_one_block_are_one_witness():
    """Ten blocks of sixteen equal values say as much of the median as ten values do."""
    blocks = np.repeat(np.arange(10.0)[:, None], 16, axis=1)
    low, high = interval(resampled_medians(blocks))
    # A median of 10 uniform values has a standard error of 0.9: 95% are some 3.6 of them.
    assert 3.0 < high - low < 6.0
    assert low < 4.5 < high
    assert math.isfinite(low)
