"""The limits of a search for the longest length: whose they are, how long a try may take, and what
becomes of it: without any search."""

import multiprocessing
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from bench.measure import longest_length
from bench.measure.longest_length import Attempt, Found, measure, search
from bench.spec import Run
from tests.small_run import a_run

CPU = torch.device("cpu")
NONE = longest_length.resource.RLIM_INFINITY
FREE = 1000


def cell(**changes: object) -> Run:
    given = {"training": {"steps": 0, "batch_size": 2}, **changes}
    measured = {"instruments": ["longest_length"], **given.pop("measure", {})}
    return a_run(measure=measured, **given)


@pytest.fixture
def searched(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int, int]]:
    """Purpose, limit and first length of the searches, which find 64 and then 96."""
    seen: list[tuple[str, int, int]] = []
    found = iter([Found(64, "memory", "", 5), Found(96, "time", "slow", 7)] * 9)

    def fake(attempt, start):
        _, purpose, limit, try_seconds, _ = attempt.args
        seen.append((purpose, limit, start))
        assert try_seconds == 30.0
        return next(found)

    monkeypatch.setattr(longest_length, "search", fake)
    monkeypatch.setattr(longest_length, "_start_server", lambda: None)
    monkeypatch.setattr(longest_length, "free_bytes", lambda: FREE)
    return seen


@pytest.mark.parametrize(
    ("measured", "resources", "given", "limit"),
    [
        ({"memory_limit_bytes": 400}, {"memory_bytes": 300}, 200, 200),
        ({"memory_limit_bytes": 400}, {"memory_bytes": 300}, None, 400),
        ({}, {"memory_bytes": 300}, None, 300),
        ({}, {}, None, FREE),
    ],
)
def test_the_nearest_limit_counts(searched, measured, resources, given, limit) -> None:
    run = cell(measure={**measured, "length_try_s": 30.0}, resources=resources)
    found = measure(run, memory_limit_bytes=given)
    assert found["memory_limit_bytes"] == limit
    assert searched == [("train", limit, 12), ("infer", limit, 64)]  # no shorter than what trains
    assert found["longest_train_length"] == 64
    assert found["longest_train_length_ends"] == "memory"
    assert found["longest_infer_length"] == 96
    assert found["longest_infer_length_reason"] == "slow"
    assert found["longest_length_tries"] == 12


@pytest.mark.parametrize(
    ("soft", "hard", "limit"), [(NONE, NONE, 150), (120, NONE, 120), (NONE, 110, 110)]
)
def test_a_limit_is_on_top_of_what_is_taken_and_below_those_that_are_set(
    monkeypatch: pytest.MonkeyPatch, soft: int, hard: int, limit: int
) -> None:
    made = []
    monkeypatch.setattr(longest_length, "data_bytes", lambda: 100)
    monkeypatch.setattr(longest_length.resource, "getrlimit", lambda _: (soft, hard))
    monkeypatch.setattr(longest_length.resource, "setrlimit", lambda *given: made.append(given))
    longest_length._limit(CPU, 50)
    assert made == [(longest_length.resource.RLIMIT_DATA, (limit, limit))]


@pytest.mark.parametrize(
    ("try_seconds", "left", "expected"), [(20.0, 100.0, 20.0), (20.0, 5.0, 5.0)]
)
def test_a_try_lasts_no_longer_than_it_may_nor_than_the_search(
    monkeypatch: pytest.MonkeyPatch, try_seconds: float, left: float, expected: float
) -> None:
    waited = []

    class Process:
        exitcode = None

        def __init__(self, target, args):
            self.folder = args[-1]

        def start(self):
            assert isinstance(self.folder, Path)

        def join(self, seconds=None):
            waited.append(seconds)

        def kill(self):
            waited.append("killed")

    monkeypatch.setattr(multiprocessing, "get_context", lambda _: SimpleNamespace(Process=Process))
    monkeypatch.setattr(longest_length.time, "monotonic", lambda: 50.0)
    tried = longest_length._attempt(cell(), "train", None, try_seconds, 50.0 + left, 64)
    assert tried == Attempt("time", f"was not done after {expected:.3g} s")
    assert waited == [expected, "killed", None]
    late = longest_length._attempt(cell(), "train", None, try_seconds, 50.0, 64)
    assert late == Attempt("time", "the time of the search is over")


@pytest.mark.parametrize(("purpose", "taken"), [("train", ["train"] * 2), ("infer", ["infer"])])
def test_two_steps_train_and_one_pass_infers(monkeypatch, purpose, taken) -> None:
    done = []
    for name, class_ in (("train", "TrainingStep"), ("infer", "InferenceStep")):
        step = lambda name=name: done.append(name)  # noqa: E731
        monkeypatch.setattr(longest_length, class_, lambda prepared, step=step: step)
    assert longest_length.attempt_here(cell(), purpose, None) == Attempt("fits")
    assert done == taken


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (MemoryError("no"), "memory"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), "memory"),
        (RuntimeError("no more than a hundred"), "failed"),
        (ValueError("odd"), "failed"),
    ],
)
def test_only_a_lack_of_memory_is_one(monkeypatch, error, outcome) -> None:
    def broken(prepared):
        raise error

    monkeypatch.setattr(longest_length, "TrainingStep", broken)
    assert longest_length.attempt_here(cell(), "train", None).outcome == outcome


def test_what_is_found_is_within_a_twentieth_as_the_instrument_says() -> None:
    for most in (10_000, 54_321):
        found = search(
            lambda length, most=most: Attempt("fits" if length <= most else "memory"), 64
        )
        assert most / 1.05 - 64 <= found.length <= most
