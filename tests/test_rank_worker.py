"""What one rank does in a block, and what is made of ranks that fail: without any process."""

from contextlib import contextmanager
from types import SimpleNamespace
from typing import ClassVar

import pytest
import torch
from torch import nn

from bench.measure import devices, ranks
from bench.measure.devices import KINDS
from bench.measure.ranks import Group, RankError, Times, Worker
from bench.spec import parse_run

TOGETHER, APART, WEAK = KINDS


def a_run(*, max_ranks=8, threads=1, **training):
    return parse_run(
        {
            "architecture": "gru",
            "task": "parity",
            "length": 16,
            "width": 16,
            "training": {"steps": 0, "batch_size": 4, **training},
            "measure": {
                "instruments": ["devices"],
                "seconds_per_cell": 1e-3,
                "min_rounds": 3,
                "max_ranks": max_ranks,
            },
            "resources": {"accelerator": "cpu", "threads": threads},
        }
    )


class Wrapper(nn.Module):
    """In the place of DistributedDataParallel: counts the steps that keep their gradients."""

    silent = 0

    def __init__(self, module, device_ids=None):
        super().__init__()
        self.module = module

    def forward(self, *inputs):
        return self.module(*inputs)

    @contextmanager
    def no_sync(self):
        type(self).silent += 1
        yield


@pytest.fixture
def barriers(monkeypatch):
    """Ranks that know of each other and share nothing; the times that they met."""
    met = []
    monkeypatch.setenv("LOCAL_RANK", "0")
    monkeypatch.setattr(ranks, "DistributedDataParallel", Wrapper)
    monkeypatch.setattr(ranks.dist, "init_process_group", lambda *_, **__: None)
    monkeypatch.setattr(ranks.dist, "barrier", lambda: met.append("met"))
    monkeypatch.setattr(Wrapper, "silent", 0)
    return met


def weights(worker):
    return torch.cat([one.detach().double().flatten() for one in worker.parameters])


def test_a_block_trains_and_is_clipped_as_training_is(barriers):
    worker = Worker(a_run(optimiser="sgd", learning_rate=1.0, weight_decay=0.0), 0, 1, "nowhere")
    before = weights(worker)
    worker.block(TOGETHER, 1)
    assert 1e-3 < (weights(worker) - before).norm() <= 1.0 + 1e-6
    tight = a_run(optimiser="sgd", learning_rate=1.0, weight_decay=0.0, clip_norm=1e-3)
    worker = Worker(tight, 0, 1, "nowhere")
    before = weights(worker)
    worker.block(TOGETHER, 1)
    assert (weights(worker) - before).norm() == pytest.approx(1e-3, rel=0.01)
    assert barriers == []


@pytest.mark.parametrize(
    ("precision", "dtype", "lowered"),
    [("bf16-true", torch.bfloat16, False), ("bf16-mixed", torch.float32, True)],
)
def test_a_rank_computes_in_the_precision_of_the_run(barriers, precision, dtype, lowered):
    worker = Worker(a_run(precision=precision), 0, 1, "nowhere")
    seen = []
    worker.loss.register_forward_pre_hook(lambda *_: seen.append(torch.is_autocast_enabled("cpu")))
    worker.block(TOGETHER, 1)
    assert {one.dtype for one in worker.parameters} == {dtype}
    assert seen == [lowered]


def test_ranks_share_the_global_batch_and_have_one_each_of_the_other(barriers):
    workers = [Worker(a_run(), rank, 2, "nowhere") for rank in range(2)]
    shares = [next(worker.orders["global"]).tolist() for worker in workers]
    wholes = [next(worker.orders["rank"]).tolist() for worker in workers]
    assert [len(share) for share in shares] == [2, 2]
    assert [len(whole) for whole in wholes] == [4, 4]
    assert not set(shares[0]) & set(shares[1])
    assert not set(wholes[0]) & set(wholes[1])


def test_a_silent_block_keeps_its_gradients_and_all_begin_together(barriers):
    worker = Worker(a_run(), 0, 2, "nowhere")
    worker.block(TOGETHER, 3)
    assert (Wrapper.silent, barriers) == (0, ["met"])
    worker.block(APART, 2)
    assert (Wrapper.silent, barriers) == (2, ["met"] * 2)
    worker.block(WEAK, 1)
    assert Wrapper.silent == 2


def test_seconds_are_of_one_step_and_so_are_those_of_its_data(barriers, monkeypatch):
    worker = Worker(a_run(), 0, 1, "nowhere")
    ticks = iter(range(100))
    monkeypatch.setattr(ranks.time, "perf_counter", lambda: float(next(ticks)))
    # Ten looks at the clock: at both ends, and before and after each of four batches.
    assert worker.block(TOGETHER, 4) == Times(9 / 4, 1.0)


def test_a_rank_has_its_time_to_answer_and_no_more(monkeypatch):
    now, waited, killed = [0.0], [], []

    def wait(pipes, seconds):
        waited.append(seconds)
        now[0] += seconds
        assert len(waited) == 1
        return []

    monkeypatch.setattr(ranks, "wait", wait)
    monkeypatch.setattr(ranks.time, "monotonic", lambda: now[0])
    group = Group.__new__(Group)
    group.n_ranks, group._pipes = 1, ["a pipe"]
    group.processes = [SimpleNamespace(kill=lambda: killed.append("killed"))]
    with pytest.raises(RankError, match="rank 0 of 1 did not answer in 5 s"):
        group._answers(5.0)
    assert (waited, killed) == ([5.0], ["killed"])


class FakeGroup:
    """Ranks that take a second for a step, and fail where they are told to."""

    failing: tuple[int, ...] = ()
    closed: ClassVar[list[int]] = []

    def __init__(self, run, n_ranks, meeting):
        self.n_ranks, self.tokens = n_ranks, 64

    def wait_until_ready(self, timeout_s):
        pass

    def block(self, block, steps, timeout_s):
        if self.n_ranks in self.failing:
            raise RankError(f"rank 0 of {self.n_ranks} ended")
        return [Times(1.0 / self.n_ranks, 0.1)] * self.n_ranks

    def close(self):
        self.closed.append(self.n_ranks)


@pytest.fixture
def groups(monkeypatch):
    monkeypatch.setattr(devices, "Group", FakeGroup)
    monkeypatch.setattr(devices, "available", lambda run: 8)
    monkeypatch.setattr(FakeGroup, "closed", [])
    return FakeGroup


def test_a_batch_is_not_cut_below_a_sequence_and_a_study_bounds_the_ranks(groups):
    found = devices.measure(a_run())
    assert found["ranks_8_missing"] == "a batch has fewer than 8 sequences"
    assert found["ranks_efficiency_4"] == pytest.approx(1.0)
    assert found["ranks_tokens_per_s_2"] == pytest.approx(2 * found["ranks_tokens_per_s_1"])
    few = devices.measure(a_run(max_ranks=2))
    assert {key for key in few if key.endswith(("_4", "_8"))} == set()
    assert "ranks_efficiency_2" in few


def test_a_group_that_fails_costs_its_own_numbers(groups, monkeypatch):
    monkeypatch.setattr(groups, "failing", (2,))
    found = devices.measure(a_run())
    assert found["ranks_2_missing"] == "rank 0 of 2 ended"
    assert "ranks_efficiency_2" not in found
    assert "ranks_efficiency_4" in found
    assert sorted(groups.closed) == [1, 2, 4]
    monkeypatch.setattr(groups, "failing", (1,))
    found = devices.measure(a_run())
    assert found["ranks_missing"] == "rank 0 of 1 ended"
    assert not [key for key in found if "efficiency" in key or "tokens" in key]


def test_there_is_room_for_as_many_ranks_as_their_threads_leave(monkeypatch):
    monkeypatch.setattr(devices.os, "sched_getaffinity", lambda _: range(8), raising=False)
    assert [devices.available(a_run(threads=n)) for n in (1, 2, 3, 9)] == [8, 4, 2, 1]
