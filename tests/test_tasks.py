"""The laws of a task, for every registered one."""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Callable
from typing import cast

import pytest
import torch

import tasks
import tasks.task
from tasks import TASKS
from tasks.parity import Parity
from tasks.task import (
    SPLITS,
    UNSCORED,
    Split,
    Task,
    Tokens,
)
from tests import task_cases
from tests.example_tasks import (
    EXAMPLES,
    FOLDER,
    GENERATED,
    LARGEST,
    LENGTHS,
    REAL,
    REQUIRED,
    input_digests,
    n_of,
    rows,
    take,
)
from tests.shared_files import SHARED_BY_TASKS

REPEATING = task_cases.names("REPEATING")
WINDOWED = task_cases.names("WINDOWED")

pytestmark = pytest.mark.usefixtures("own_blocks", "small_data_sets")


def test_every_task_file_is_registered() -> None:
    assert {file.stem for file in FOLDER.glob("*.py")} - SHARED_BY_TASKS - {"__init__"} == set(
        TASKS
    )
    for name, cls in TASKS.items():
        assert cls.__module__ == f"tasks.{name}"


def test_tasks_import_neither_bench_nor_architectures() -> None:
    for file in FOLDER.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            names: list[str] = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
            assert not {name.partition(".")[0] for name in names} & {"bench", "architectures"}, file


@pytest.mark.parametrize("name", TASKS)
def test_the_first_line_of_the_docstring_describes_the_task(name: str) -> None:
    cls = TASKS[name]
    assert "__doc__" in vars(cls)
    line = (cls.__doc__ or "").partition("\n")[0]
    assert 20 <= len(line) <= 90
    assert line.endswith(".")


@pytest.mark.parametrize("name", TASKS)
def test_a_task_is_a_hashable_value_and_loads_nothing_when_made(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("data was read")

    monkeypatch.setattr("tasks.data.packages.PackageFile.read", refuse)
    monkeypatch.setattr("tasks.data.standard_library.read", refuse)
    cls = cast("Callable[..., Task]", TASKS[name])
    required = REQUIRED.get(name, {})
    one, other = cls(**required), cls(**required)
    assert one == other
    assert hash(one) == hash(other)
    assert one.size("val") is not None
    assert one.size("test") is not None
    again = cls(length=one.length, **one.options())
    assert again == one
    assert "length" not in one.options()


@pytest.mark.parametrize("name", TASKS)
@pytest.mark.parametrize("split", SPLITS)
def test_same_seed_same_bytes_in_any_order_and_on_any_ranks(name: str, split: Split) -> None:
    task = EXAMPLES[name]
    take(task, split, 1)
    indices = torch.arange(n_of(task, split, 77))
    whole = rows(take(task, split, indices, seed=3))
    two_ranks = [rows(take(task, split, indices[rank::2], seed=3)) for rank in (0, 1)]
    assert whole[0::2] == two_ranks[0]
    assert whole[1::2] == two_ranks[1]
    fives = [row for part in indices.split(5) for row in rows(take(task, split, part, seed=3))]
    assert whole == fives
    backwards = rows(take(task, split, indices.flip(0), seed=3))
    assert whole == backwards[::-1]
    tasks.task._BLOCKS.__init__()  # type: ignore[misc]  # forget the blocks
    assert whole[-1:] == rows(take(task, split, indices[-1:], seed=3))


@pytest.mark.parametrize("name", [*GENERATED, "python_bytes", *WINDOWED])
def test_another_seed_gives_other_training_examples(name: str) -> None:
    task = EXAMPLES[name]
    one = input_digests(take(task, "train", 64, seed=0))
    other = input_digests(take(task, "train", 64, seed=1))
    assert len(one) == len(other) == 64
    assert not one & other


@pytest.mark.parametrize("name", REAL)
@pytest.mark.parametrize("split", ["val", "test"])
def test_held_out_real_data_is_the_same_for_every_seed(name: str, split: Split) -> None:
    task = EXAMPLES[name]
    n = n_of(task, split, 20)
    assert rows(take(task, split, n, seed=0)) == rows(take(task, split, n, seed=1))


@pytest.mark.parametrize("name", TASKS)
def test_splits_do_not_overlap(name: str) -> None:
    task = EXAMPLES[name]
    take(task, "val", 1)
    found = {split: input_digests(take(task, split, n_of(task, split, 400))) for split in SPLITS}
    for split, digests in found.items():
        # Training windows start anywhere in a small text: two of 400 may start at one place.
        alike = 2 if name in WINDOWED and split == "train" else 0
        if name in REPEATING and split == "train":
            continue
        assert n_of(task, split, 400) - alike <= len(digests) <= n_of(task, split, 400)
    assert not found["train"] & found["val"]
    assert not found["train"] & found["test"]
    assert not found["val"] & found["test"]


@pytest.mark.parametrize("name", TASKS)
def test_length_really_is_the_length(name: str) -> None:
    for length in LENGTHS[name]:
        task = cast("Callable[..., Task]", TASKS[name])(length=length, **REQUIRED.get(name, {}))
        batch = take(task, "test", 3)
        sequences = (3, 2) if task.kind == "pair" else (3,)
        assert batch.inputs.shape[: len(sequences) + 1] == (*sequences, length)
        if batch.lengths is not None:
            assert batch.lengths.shape == sequences
            assert batch.lengths.min() >= 1
            assert batch.lengths.max() <= length
            beyond = torch.arange(length) >= batch.lengths[..., None]
            assert (batch.inputs[beyond] == 0).all()
        if task.kind == "per_step":
            assert batch.targets.shape[:2] == (3, length)
        else:
            assert batch.targets.shape[0] == 3


@pytest.mark.parametrize("name", TASKS)
@pytest.mark.parametrize("split", SPLITS)
def test_inputs_and_targets_are_what_the_task_says(name: str, split: Split) -> None:
    task = EXAMPLES[name]
    batch = take(task, split, n_of(task, split, 64))
    if isinstance(task.inputs, Tokens):
        assert batch.inputs.dtype == torch.int64
        assert batch.inputs.ndim == (3 if task.kind == "pair" else 2)
        assert batch.inputs.min() >= 0
        assert batch.inputs.max() < task.inputs.vocabulary
    else:
        assert batch.inputs.dtype == torch.float32
        assert batch.inputs.shape[2:] == (task.inputs.channels,)
        assert batch.inputs.isfinite().all()
        assert batch.inputs.abs().max() <= LARGEST.get(name, 3)
        assert 0.05 < batch.inputs.square().mean().sqrt() < 3
    if batch.targets.dtype == torch.float32:
        per_step = (task.length,) if task.kind == "per_step" else ()
        assert batch.targets.shape == (len(batch), *per_step, task.n_outputs)
        assert not batch.targets.isinf().any()
        assert not batch.targets.isnan().all()
    else:
        assert batch.targets.dtype == torch.int64
        scored = batch.targets[batch.targets != UNSCORED]
        assert len(scored) > 0
        assert scored.min() >= 0
        assert scored.max() < task.n_outputs


@pytest.mark.parametrize("name", TASKS)
def test_an_index_beyond_the_split_raises(name: str) -> None:
    task = EXAMPLES[name]
    take(task, "test", 1)
    size = task.size("test")
    assert size is not None
    for index in (size, -1):
        with pytest.raises(IndexError):
            take(task, "test", torch.tensor([0, index]))
    with pytest.raises(IndexError):
        take(task, "test", 0)


def test_a_finite_training_split_is_the_beginning_of_the_endless_one() -> None:
    finite, endless = Parity(length=40, n_train=50), Parity(length=40)
    assert finite.size("train") == 50
    assert endless.size("train") is None
    assert rows(take(finite, "train", 50)) == rows(take(endless, "train", 50))


def test_long_examples_come_in_smaller_blocks() -> None:
    long = tasks.task.BLOCK_TOKENS // 2
    task = Parity(length=long)
    three = take(task, "test", 3)
    assert rows(take(task, "test", torch.tensor([2, 0]))) == [rows(three)[2], rows(three)[0]]
    assert len(set(rows(three))) == 3
    assert {len(block) for block in tasks.task._BLOCKS._blocks.values()} == {2}


def test_the_cache_keeps_to_its_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks.task, "CACHE_BYTES", 100_000)
    task = Parity(length=50)
    one_block = 2 * 8 * 50 * tasks.task.BLOCK_EXAMPLES
    before = rows(take(task, "train", 1000))
    cache = tasks.task._BLOCKS
    assert 0 < len(cache._blocks) <= 100_000 // one_block
    assert cache._bytes == one_block * len(cache._blocks)
    assert before == rows(take(task, "train", 1000))


# Taken when version was 1: another value without another version would leave rows of two
# generators under one fingerprint.
FIRST_EXAMPLES = {
    "adding": ("Adding-v1", "17a1930e6ccd0585"),
    "mqar": ("Mqar-v1", "31f4be683b608dbc"),
    "parity": ("Parity-v1", "e370ddb897147da8"),
    "selective_copy": ("SelectiveCopy-v1", "4c0ad4456d5b0a1c"),
    **task_cases.by_name("FIRST_EXAMPLES"),
}


@pytest.mark.parametrize("name", FIRST_EXAMPLES)
def test_the_fingerprint_changes_when_the_examples_do(name: str) -> None:
    task = EXAMPLES[name]
    digest = hashlib.sha256(b"".join(rows(take(task, "train", 64)))).hexdigest()[:16]
    assert (task.fingerprint(), digest) == FIRST_EXAMPLES[name]
