"""Scaling over ranks: numbers that can be, and a rank that dies is a reason and no hang."""

import math
import os
import signal
import time

import pytest

from architectures.body import UnsupportedError
from bench.errors import UserError
from bench.measure.devices import KINDS, Lane, _scaling, measure, powers_of_two
from bench.measure.ranks import Group, RankError, Times, block_of
from bench.spec import parse_run

SHORT_S = 60.0  # for a process to start on a busy machine


def a_run(**changes):
    base = {
        "architecture": "gru",
        "task": "parity",
        "length": 16,
        "width": 16,
        "training": {"steps": 0, "batch_size": 4, **changes.pop("training", {})},
        "measure": {"instruments": ["throughput"], "seconds_per_cell": 0.01, "min_rounds": 3},
        "resources": {"accelerator": "cpu", **changes.pop("resources", {})},
    }
    return parse_run({**base, **changes})


def lane(seconds, data_seconds=0.0, rounds=5):
    return Lane([seconds] * rounds, [data_seconds] * rounds)


def test_efficiency_and_shares_are_those_of_known_times():
    # One rank takes 8 s; four take 2.5 s, 0.5 s of it talk, and 10 s on four times the batch.
    lanes = [lane(2.5, 0.25), lane(2.0), lane(10.0)]
    assert [kind.fixed for kind in KINDS] == ["global", "global", "rank"]
    found = _scaling(4, lane(8.0), lanes, tokens=100)
    assert found["ranks_efficiency_4"] == pytest.approx(0.8)
    assert found["ranks_weak_efficiency_4"] == pytest.approx(0.8)
    assert found["ranks_communication_share_4"] == pytest.approx(0.2)
    assert found["ranks_data_share_4"] == pytest.approx(0.1)
    assert found["ranks_tokens_per_s_4"] == pytest.approx(40.0)
    assert found["ranks_efficiency_4_low"] == found["ranks_efficiency_4_high"]


def test_rounds_that_slow_all_groups_alike_do_not_widen_the_interval():
    slow = (1.0, 1.5, 2.0, 3.0, 1.2)
    both = [Lane([s * each for each in slow], [0.0] * 5) for s in (8.0, 2.5)]
    found = _scaling(4, both[0], [both[1]] * 3, tokens=1)
    assert found["ranks_efficiency_4_low"] == pytest.approx(0.8)
    assert found["ranks_efficiency_4_high"] == pytest.approx(0.8)


def test_a_step_is_as_long_as_that_of_the_slowest_rank():
    assert block_of([Times(1.0, 0.9), Times(2.0, 0.1)]) == (2.0, 0.1)


def test_ranks_are_powers_of_two():
    assert powers_of_two(1) == (1,)
    assert powers_of_two(6) == (1, 2, 4)
    assert powers_of_two(100) == (1, 2, 4, 8)


def test_what_cannot_be_spread_is_refused():
    with pytest.raises(UnsupportedError, match="tbptt_window"):
        measure(a_run(training={"tbptt_window": 4}), ranks=(1, 2))
    with pytest.raises(UnsupportedError, match="ddp"):
        measure(a_run(resources={"strategy": "fsdp"}), ranks=(1, 2))
    assert "room for 1 rank" in measure(a_run(resources={"threads": 1024}))["ranks_missing"]


def test_a_spec_with_devices_is_told_where_to_ask_for_ranks():
    for asked in ({"devices": 2}, {"nodes": 2}):
        with pytest.raises(
            UserError, match=r"`devices` spreads it says measure\.max_ranks"
        ) as error:
            a_run(resources=asked)
        assert "\n" not in str(error.value)


@pytest.mark.slow
def test_two_ranks_have_numbers_that_can_be():
    found = measure(a_run(), ranks=(1, 2))
    assert not [key for key in found if "missing" in key]
    for name in ("efficiency", "weak_efficiency", "data_share", "communication_share"):
        key = f"ranks_{name}_2"
        assert found[f"{key}_low"] <= found[key] <= found[f"{key}_high"]
    assert 0 < found["ranks_data_share_2"] < 1
    # A difference of two times: on a busy machine noise may be more than the talk, either way.
    assert math.isfinite(found["ranks_communication_share_2"])
    assert found["ranks_communication_share_2"] < 1
    assert 0 < found["ranks_efficiency_2"] < 4
    assert found["ranks_rounds"] >= 3


@pytest.mark.slow
def test_a_rank_that_dies_ends_its_group_with_a_reason(tmp_path):
    group = Group(a_run(), 2, tmp_path / "meet")
    try:
        group.wait_until_ready(SHORT_S)
        assert group.tokens == 4 * 16
        assert len(group.block(KINDS[0], 1, SHORT_S)) == 2
        os.kill(group.processes[1].pid, signal.SIGKILL)
        begun = time.monotonic()
        with pytest.raises(RankError, match=r"rank [01] of 2"):
            group.block(KINDS[0], 1, SHORT_S)
        assert time.monotonic() - begun < SHORT_S / 2
    finally:
        group.close()
    assert all(process.exitcode is not None for process in group.processes)


@pytest.mark.slow
def test_a_rank_that_is_silent_ends_its_group_with_a_reason(tmp_path):
    group = Group(a_run(), 2, tmp_path / "meet")
    try:
        group.wait_until_ready(SHORT_S)
        os.kill(group.processes[0].pid, signal.SIGSTOP)
        with pytest.raises(RankError, match=r"rank 0 of 2 did not answer in 1 s"):
            group.block(KINDS[0], 1, 1.0)
    finally:
        group.close()
    assert all(process.exitcode is not None for process in group.processes)


@pytest.mark.slow
def test_a_rank_that_fails_says_why():
    found = measure(a_run(task="no_such_task"), ranks=(1, 2))
    assert "no task 'no_such_task'" in found["ranks_missing"]
