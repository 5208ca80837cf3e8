"""How a stream is read and its steps are timed: each token once, each wait paid, all in turns."""

import math
from pathlib import Path

import torch

from architectures.body import Body, state_bytes
from bench.measure import stream_reading, stream_timing
from bench.measure.stream_reading import Snapshot, max_length, read
from bench.measure.stream_timing import AHEAD, BLOCK_STEPS, MAX_BLOCKS, PATIENCE, Lane, time_steps
from bench.measure.streaming import source_for
from tests.streamed import Clock, Synthetic


def reading(body, positions, *, batch=1, limit_s=60.0, synchronise=lambda: None):
    with torch.no_grad():
        return read(
            body,
            source_for(body, batch, 0),
            positions,
            limit_s=limit_s,
            ahead=AHEAD,
            synchronise=synchronise,
            clock=body.clock,
        )


def spied(body):
    """The shapes of what the body's parallel pass is given, (rows, tokens before it, tokens)."""
    seen, forward = [], body.forward

    def spy(x, state=None, **more):
        seen.append((len(x), 0 if state is None else int(state[0][0]), x.shape[1]))
        return forward(x, state, **more)

    body.forward = spy
    return seen


def test_many_streams_are_read_as_one_and_each_has_a_state_of_its_own():
    body = Synthetic(Clock(), keeps=10**6)
    seen = spied(body)
    early, late = (found.state for found in reading(body, (30, 300), batch=3).snapshots)
    assert {rows for rows, _, _ in seen} == {1}
    for (count, total, kept), position in ((early, 30), (late, 300)):
        assert count.flatten().tolist() == [position] * 3
        assert kept.shape == (3, position, 4)
        torch.testing.assert_close(kept.sum(1), total)
    assert torch.equal(late[2][0, :299], late[2][1, :299])
    assert not torch.equal(late[2][0, 299], late[2][1, 299])  # the token that each reads alone
    assert torch.equal(late[2][2, :30], early[2][0])


class Constant(Body):
    """y = x; what the first call makes passes through all others: a view of ten numbers of 20."""

    clock = Clock()

    def forward(self, x, state=None, *, lengths=None):
        return x, x.new_zeros(len(x), 20)[:, :10] if state is None else state


def test_what_passes_through_a_step_is_in_every_stream():
    body = Constant(4)
    # What one stream has is copied for each of three, without what is beside the view.
    (found,) = reading(body, (9,), batch=3).snapshots
    assert found.state_bytes == 3 * 10 * 4
    # Made by the step itself, the view keeps the memory behind it.
    (first,) = reading(body, (1,), batch=3).snapshots
    assert first.state_bytes == state_bytes(first.state) == 3 * 20 * 4


def test_chunks_of_a_growing_body_shrink_with_what_they_see(monkeypatch):
    monkeypatch.setattr(stream_reading, "CHUNK_TOKENS", 64)
    monkeypatch.setattr(stream_reading, "MASK_NUMBERS", 200)
    body = Synthetic(Clock())
    seen = spied(body)
    reading(body, (350,))
    assert {tokens for _, _, tokens in seen[:-1]} == {64}
    seen.clear()
    body.state_grows = True
    reading(body, (350,))
    assert all(tokens * max(1, before) <= 200 or tokens == 1 for _, before, tokens in seen)
    assert sum(tokens for _, _, tokens in seen) == 349
    assert seen[0][2] == 64


def test_a_chunk_is_over_when_the_device_is_done():
    body, waits = Synthetic(clock := Clock(), pass_s=0.0), []

    def synchronise():  # the device needs a second for a chunk
        clock.now += 1.0
        waits.append(clock.now)

    found = reading(body, (10**6,), limit_s=5.0, synchronise=synchronise)
    assert "122 us per token" in found.missing[10**6]  # a second by 8192 tokens
    assert waits == [1.0]


def paced(body, *paces_s):
    """Let each chunk of a hundred take its own seconds per token, and all others the last."""
    left = list(paces_s)
    forward = body.forward

    def spy(x, state=None, **more):
        if x.shape[1] > 1:
            body.pass_s = left.pop(0) if len(left) > 1 else left[0]
        return forward(x, state, **more)

    body.forward = spy


def test_one_slow_chunk_is_no_reason_to_give_up(monkeypatch):
    monkeypatch.setattr(stream_reading, "CHUNK_TOKENS", 100)
    body = Synthetic(Clock())
    paced(body, 1e-4, 2e-2, 1e-4)  # all chunks like the second would take 26 s of the 8 left
    assert [one.position for one in reading(body, (1500,), limit_s=10.0).snapshots] == [1500]


def test_reading_ends_at_its_time_however_fast_a_chunk_once_was(monkeypatch):
    monkeypatch.setattr(stream_reading, "CHUNK_TOKENS", 100)
    body = Synthetic(clock := Clock())
    paced(body, 1e-6, 1e-2)
    found = reading(body, (50, 5000, 6000), limit_s=10.0)
    assert [one.position for one in found.snapshots] == [50]
    assert list(found.missing) == [5000, 6000]
    assert 10.0 <= clock.now <= 11.0


def test_states_that_do_not_fit_are_not_made(monkeypatch):
    monkeypatch.setattr(stream_reading, "free_bytes", lambda: 9000)
    body = Synthetic(Clock(), keeps=10**6)  # 8 (5 + 4 P) bytes after P tokens
    found = reading(body, (30, 90, 300), batch=3)
    assert [one.position for one in found.snapshots] == [30]  # 3 copies of 3 states of 968 bytes
    for position in (90, 300):
        assert found.missing[position] == (
            "steps of 3 states of 2888 bytes after 89 tokens need 25992 bytes, and 9000 are free"
        )
    monkeypatch.setattr(stream_reading, "free_bytes", lambda: None)
    assert len(reading(body, (30, 90, 300), batch=3).snapshots) == 3


def test_steps_that_nobody_can_wait_for_are_not_begun():
    body = Synthetic(Clock(), lambda position: 0.5 * position)  # seconds
    found = reading(body, (1, 30, 300), limit_s=300.0)
    assert [one.position for one in found.snapshots] == [1, 30]
    assert "17 steps after 300 tokens take longer" in found.missing[300]
    assert "took 150 s" in found.missing[300]


def test_the_shortest_of_the_bodies_inside_bounds_the_positions():
    body = Synthetic(Clock())
    assert max_length(body) is None
    body.max_length, body.inner = 500, Constant(4)
    body.inner.max_length = 50
    assert max_length(body) == 50


class Recorder:
    """A stepper of which every call takes a second, and what was done in which order."""

    method = "recorded"

    def __init__(self):
        self.clock, self.done = Clock(), []

    def begin(self, state):
        self.done.append(state)

    def __call__(self, x_t):
        self.done.append("step")
        return x_t

    def synchronise(self):
        self.clock.now += 1.0
        self.done.append("wait")


def timed(recorder, *, seconds=1.0, min_rounds=3, waited=lambda: 0.0, monkeypatch):
    monkeypatch.setattr(stream_timing, "_waited_for_cpu_s", waited)
    lanes = [Lane(Snapshot(1, "first", 0)), Lane(Snapshot(9, "second", 0))]
    time_steps(
        recorder,
        lanes,
        [torch.zeros(1, 4)] * AHEAD,
        seconds=seconds,
        min_rounds=min_rounds,
        synchronise=recorder.synchronise,
        clock=recorder.clock,
    )
    return lanes


def test_lanes_take_turns_and_every_step_is_waited_for_alone(monkeypatch):
    lanes = timed(recorder := Recorder(), monkeypatch=monkeypatch)
    block = ["step", "wait"] * AHEAD
    assert recorder.done == ["first", *block, "second", *block] * 3
    # The first step fetches the state and is not timed.
    assert [lane.accepted for lane in lanes] == [[[1.0] * BLOCK_STEPS] * 3] * 2


def test_every_lane_has_its_seconds_and_its_rounds(monkeypatch):
    for seconds, min_rounds, expected in ((40.0, 1, 3), (1.0, 5, 5)):
        lanes = timed(Recorder(), seconds=seconds, min_rounds=min_rounds, monkeypatch=monkeypatch)
        # A round of two blocks takes 34 s of the 80 that both lanes have.
        assert [len(lane.accepted) for lane in lanes] == [expected] * 2


def test_a_block_that_waited_for_a_cpu_is_rejected_and_used_only_if_few_others_are(monkeypatch):
    # 2% of a block of 16 s is 0.32 s. The first lane waits in its first block, then nobody does.
    for wait_s, n_rejected in ((0.33, 1), (0.31, 0)):
        readings = iter([0.0, wait_s])
        waited = lambda readings=readings, wait_s=wait_s: next(readings, wait_s)  # noqa: E731
        first, second = timed(Recorder(), seconds=40.0, waited=waited, monkeypatch=monkeypatch)
        assert (len(first.rejected), len(second.rejected)) == (n_rejected, 0)
        assert len(first.accepted) >= 3
        assert first.blocks.shape == (len(first.accepted), BLOCK_STEPS)
    few = Lane(first.snapshot, accepted=[[1.0], [1.0]], rejected=[[9.0]])
    assert few.blocks.tolist() == [[1.0], [1.0], [9.0]]


def test_a_machine_that_is_never_quiet_holds_nothing_up(monkeypatch):
    total = iter(range(10**9))
    lanes = timed(
        recorder := Recorder(), seconds=100.0, waited=lambda: next(total), monkeypatch=monkeypatch
    )
    assert [lane.accepted for lane in lanes] == [[], []]
    assert PATIENCE * 200.0 <= recorder.clock.now <= PATIENCE * 200.0 + 2 * AHEAD


def test_blocks_are_bounded_where_steps_take_no_time(monkeypatch):
    recorder = Recorder()
    monkeypatch.setattr(Recorder, "synchronise", lambda self: None)
    lanes = timed(recorder, monkeypatch=monkeypatch)
    assert [len(lane.accepted) for lane in lanes] == [MAX_BLOCKS] * 2


def test_waiting_is_what_linux_calls_run_delay(monkeypatch):
    monkeypatch.setattr(Path, "read_text", lambda file: "5000000000 7000000000 12\n")
    assert stream_timing._waited_for_cpu_s() == 7.0

    def missing(file):
        raise FileNotFoundError(file)

    monkeypatch.setattr(Path, "read_text", missing)
    assert stream_timing._waited_for_cpu_s() == 0.0
    assert math.isfinite(stream_timing._waited_for_cpu_s())
