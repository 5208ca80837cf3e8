"""What the table of kernels' speed takes for a bound that is met."""

import time

import pytest
import torch
from torch import Tensor

from tests.speed.kernel_table import timing
from tests.speed.kernel_table.comparison import Call, Comparison
from tests.speed.kernel_table.limits import Limits
from tests.speed.kernel_table.timing import Candidate, Outcome, Timer, compare

QUICK = Timer(torch.device("cpu"), cpu=True, quick=True)
FULL = Timer(torch.device("cpu"), cpu=True, quick=False)


def outcome(ratio: float, noise: float = 1.0, flops: float = 0.0) -> Outcome:
    return Outcome(
        seconds=1.0,
        low=1.0,
        high=1.0,
        peer_seconds=ratio,
        noise=noise,
        blocks=9,
        dropped=0,
        flops=flops,
        moved_bytes=1e9,
    )


def squares(x: Tensor) -> Tensor:
    return x * x


def comparison(peer: Call) -> Comparison:
    x = torch.linspace(-1, 1, 11).requires_grad_()
    return Comparison(
        name="square", native=squares, peer_name="peer", peer=peer, inputs=[x], bound=1.0
    )


@pytest.fixture
def _short_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "BLOCK_S", 1e-4)


def test_a_bound_is_met_from_itself_on() -> None:
    assert outcome(2.0).met(2.0, not_slower=False)
    assert not outcome(1.99).met(2.0, not_slower=False)


def test_equal_speed_is_judged_by_the_noise() -> None:
    assert outcome(0.92).met(1.0, not_slower=True)
    assert not outcome(0.89).met(1.0, not_slower=True)
    assert outcome(0.89, noise=1.05).met(1.0, not_slower=True)
    assert outcome(0.89, noise=0.95).met(1.0, not_slower=True)


def test_implementations_that_differ_are_not_timed() -> None:
    with pytest.raises(RuntimeError, match="not the same operation"):
        compare(comparison(lambda x: x * x.abs()), QUICK)
    with pytest.raises(RuntimeError, match="not the same operation"):
        compare(comparison(lambda x: x * x / 0 * 0), QUICK)


@pytest.mark.usefixtures("_short_blocks")
def test_a_peer_that_sleeps_is_slower() -> None:
    def asleep(x: Tensor) -> Tensor:
        time.sleep(0.002)
        return squares(x)

    wall = Timer(torch.device("cpu"), cpu=False, quick=True)
    found = compare(comparison(asleep), wall)
    assert found.ratio > 2
    assert found.moved_bytes == (3 + 2) * 11 * 4


@pytest.mark.usefixtures("_short_blocks")
def test_what_is_slow_is_timed_once_by_quick_and_seldom_otherwise(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    inputs = comparison(squares).inputs
    assert Candidate(squares, inputs, QUICK).rounds == timing.QUICK_ROUNDS
    monkeypatch.setattr(timing, "SLOW_S", 0.0)
    once, seldom = (Candidate(squares, inputs, timer) for timer in (QUICK, FULL))
    assert (once.rounds, len(once.clean + once.disturbed)) == (0, 1)
    assert (seldom.rounds, len(seldom.clean + seldom.disturbed)) == (timing.SLOW_ROUNDS, 0)


@pytest.mark.usefixtures("_short_blocks")
def test_disturbed_blocks_are_dropped_while_three_remain() -> None:
    candidate = Candidate(squares, comparison(squares).inputs, QUICK)
    candidate.clean, candidate.disturbed = [1.0, 1.0, 1.0], [9.0]
    assert candidate.used() == [1.0, 1.0, 1.0]
    candidate.clean.pop()
    assert candidate.used() == [1.0, 1.0, 9.0]


def test_the_nearer_limit_is_shown() -> None:
    limits = Limits(flop_per_s=1e11, bytes_per_s=1e10)
    assert limits.share(outcome(2.0, flops=5e10)).strip() == "50% of products"
    assert limits.share(outcome(2.0, flops=5e9)).strip() == "10% of memory"
