"""The longest length that fits: known bodies under known limits, and every way to end."""

import json
import multiprocessing
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bench.measure import free_memory, longest_length
from bench.measure.longest_length import (
    LENGTH_STEP,
    LONGEST,
    TOLERANCE,
    Attempt,
    Found,
    measure,
    search,
)
from bench.spec import Run
from tests import hungry
from tests.small_run import a_run

MIB = 1 << 20
LIMIT = 256 * MIB
BESIDE = 8 * MIB  # what a step takes beside the known allocation: model, batch, the heap's slack


@pytest.fixture(scope="module", autouse=True)
def bodies(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with hungry.installed(tmp_path_factory.mktemp("bodies")):
        yield


def cell(architecture: object, **changes: object) -> Run:
    return a_run(
        architecture=architecture,
        length=100,
        width=8,
        training={"steps": 0, "batch_size": 1},
        measure={"instruments": ["memory"]},
        **changes,
    )


def up_to(
    most: int, beyond: str = "memory", has: Callable[[int], bool] = lambda _: True
) -> Callable[[int], Attempt]:
    """What becomes of a length if `most` is the longest, of a task that has some only."""

    def attempt(length: int) -> Attempt:
        if not has(length):
            return Attempt("task", "no such length")
        return Attempt("fits" if length <= most else beyond, f"beyond {most}")

    return attempt


@pytest.mark.parametrize("most", [1, 2, 63, 64, 100, 129, 1000, 4095, 65_537, 9_999_999])
@pytest.mark.parametrize("start", [1, 65, 100, 128, 100_000])
def test_what_is_found_fits_and_is_near_the_longest(most: int, start: int) -> None:
    found = search(up_to(most), start)
    assert found.ends == "memory"
    assert found.length <= most <= found.length + max(LENGTH_STEP, TOLERANCE * found.length)


def test_no_length_is_tried_twice_and_few_are() -> None:
    tried = []

    def attempt(length: int) -> Attempt:
        tried.append(length)
        return up_to(123_457)(length)

    found = search(attempt, 100)
    assert len(tried) == len(set(tried)) == found.n_tries <= 17
    assert all(length % LENGTH_STEP == 0 for length in tried[12:])


def is_square(length: int) -> bool:
    return round(length**0.5) ** 2 == length


def test_a_task_of_squares_is_asked_for_squares_and_ends_the_search() -> None:
    found = search(up_to(10_000, has=is_square), 49)
    assert (found.length, found.ends, found.reason) == (3136, "task", "no such length")


def test_every_other_end_is_named_and_says_what_fits() -> None:
    for beyond in ("time", "architecture"):
        found = search(up_to(1000, beyond), 64)
        assert (found.length, found.ends) == (512, beyond)
        assert "length 1024: beyond 1000" in found.reason
    assert search(up_to(1000, has=lambda n: n < 300), 128).ends == "task"
    assert search(up_to(10**9), 10**7) == Found(
        LONGEST, "task", f"a run has at most {LONGEST} tokens", 5
    )
    assert search(up_to(10**6), 64, max_tries=5) == Found(
        1024, "limit of tries", "5 lengths were tried", 5
    )


def test_what_is_no_lack_of_memory_is_missing_and_not_a_length() -> None:
    assert search(up_to(1000, "failed"), 64) == Found(None, None, "length 1024: beyond 1000", 5)
    for nowhere in (up_to(0), up_to(10, has=lambda _: False), up_to(0, "time")):
        found = search(nowhere, 64)
        assert found.length is found.ends is None
        assert found.reason


def test_an_architecture_is_tried_at_its_own_longest() -> None:
    def attempt(length: int) -> Attempt:
        return Attempt("fits") if length <= 333 else Attempt("architecture", "ends at 333", 333)

    found = search(attempt, 100)
    assert (found.length, found.n_tries) == (333, 4)


@pytest.mark.slow
@pytest.mark.parametrize(("power", "per_token"), [(1, 64 * 1024), (2, 64)])
def test_the_longest_of_a_known_body_is_found_under_a_hard_limit(
    power: int, per_token: int
) -> None:
    body = {"name": "hungry", "bytes_per_token": per_token, "power": power}
    found = measure(cell(body), memory_limit_bytes=LIMIT)
    for purpose in ("train", "infer"):
        longest = found[f"longest_{purpose}_length"]
        assert found[f"longest_{purpose}_length_ends"] == "memory"
        next_tried = longest + max(LENGTH_STEP, TOLERANCE * longest)
        assert per_token * longest**power <= LIMIT
        assert per_token * next_tried**power >= LIMIT - BESIDE
    assert found["memory_limit_bytes"] == LIMIT
    assert not multiprocessing.active_children()


@pytest.mark.slow
def test_other_ends_of_real_processes() -> None:
    failed = measure(cell("broken"), memory_limit_bytes=LIMIT)
    for purpose in ("train", "infer"):
        assert "no more than a hundred" in failed[f"longest_{purpose}_length_missing"]
        assert f"longest_{purpose}_length" not in failed
    late = measure(cell("sleepy"), memory_limit_bytes=LIMIT, try_seconds=15, total_seconds=40)
    assert late["longest_train_length_ends"] == "time"
    assert late["longest_train_length"] == 100
    learned = {"name": "transformer", "position": "learned", "max_length": 333, "heads": 1}
    ended = measure(cell(learned), memory_limit_bytes=LIMIT)
    assert ended["longest_train_length"] == ended["longest_infer_length"] == 333
    assert ended["longest_train_length_ends"] == "architecture"
    assert not multiprocessing.active_children()


@pytest.mark.slow
def test_a_real_architecture_reads_further_than_it_learns() -> None:
    # Libraries take 20 MiB and more for themselves, on some processors.
    found = measure(cell("lstm"), memory_limit_bytes=96 * MIB, total_seconds=200)
    assert found["longest_train_length_ends"] == "memory", found
    assert 100 < found["longest_train_length"] < found["longest_infer_length"], found
    twice = measure(cell("lstm"), memory_limit_bytes=192 * MIB, total_seconds=200)
    assert 1.6 < twice["longest_train_length"] / found["longest_train_length"] < 2.8


def test_a_limit_beyond_what_is_free_is_not_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(longest_length, "free_bytes", lambda: 5 * MIB)
    monkeypatch.setattr(longest_length, "search", lambda *_: pytest.fail("it was"))
    found = measure(cell("lstm"), memory_limit_bytes=6 * MIB)
    assert "more than the 5242880 bytes that are free" in found["longest_train_length_missing"]
    assert "longest_infer_length_missing" in found


def test_a_process_that_dies_is_out_of_memory_only_if_it_says_so() -> None:
    assert longest_length._death(-6, "terminate called: std::bad_alloc").outcome == "memory"
    died = longest_length._death(-9, "")
    assert (died.outcome, died.reason) == ("failed", "its process died of SIGKILL")


def test_an_attempt_survives_json() -> None:
    kept = json.loads(json.dumps(longest_length.asdict(Attempt("architecture", "ends", 3))))
    assert Attempt(**kept) == Attempt("architecture", "ends", 3)


def test_a_task_without_the_length_says_so() -> None:
    run = cell("lstm").model_copy(update={"length": 101})
    squares = run.model_copy(update={"task": run.task.model_copy(update={"name": "smnist5k"})})
    found = longest_length.attempt_here(squares, "train", None)
    assert found.outcome == "task"
    assert "101" in found.reason


def test_the_control_group_that_leaves_least_counts(tmp_path: Path) -> None:
    membership = tmp_path / "cgroup"
    membership.write_text("4:memory:/a\n0::/outer/inner\n")
    files = {
        "outer/memory.max": 1000,
        "outer/memory.current": 900,
        "outer/inner/memory.max": "max",
        "outer/inner/memory.current": 5,
        "memory/a/memory.limit_in_bytes": 2**63 - 4096,  # none
        "memory/a/memory.usage_in_bytes": 5,
    }
    for name, value in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(f"{value}\n")
    (tmp_path / "outer/memory.stat").write_text("anon 1\ninactive_file 300\n")
    assert free_memory._control_groups(membership, tmp_path) == int(0.9 * 400)
    (tmp_path / "memory/a/memory.limit_in_bytes").write_text("105")
    assert free_memory._control_groups(membership, tmp_path) == 90
    assert free_memory._control_groups(tmp_path / "none", tmp_path) is None
