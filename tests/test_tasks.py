"""The laws of a task, for every registered one."""

from __future__ import annotations

import ast
import hashlib
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest
import torch
from torch import Tensor

import tasks
import tasks.task
from tasks import TASKS
from tasks.adding import Adding
from tasks.mqar import Mqar
from tasks.parity import Parity
from tasks.scoring import accuracy, cross_entropy, squared_error
from tasks.selective_copy import SelectiveCopy
from tasks.task import (
    SPLITS,
    UNSCORED,
    Batch,
    Count,
    GeneratedTask,
    MissingPackageError,
    Split,
    Task,
    Tokens,
    generator,
)

FOLDER = Path(tasks.task.__file__).parent
SHARED_FILES = {"__init__", "task", "scoring", "pixels", "word_labelling"}

# Small enough that a slow solver reads hundreds, hard enough that nothing is trivial.
EXAMPLES: dict[str, Task] = {
    "adding": Adding(length=33),
    "digits": TASKS["digits"](length=64),
    "mqar": Mqar(length=64, n_pairs=4, vocabulary=66),
    "parity": Parity(length=63),
    "python_bytes": TASKS["python_bytes"](length=100),
    "selective_copy": SelectiveCopy(length=43, n_data=5, vocabulary=9),
    "smnist5k": TASKS["smnist5k"](length=196),
}
LENGTHS: dict[str, list[int]] = {
    "adding": [2, 3, 65],
    "digits": [16, 64, 256, 1024],
    "mqar": [16, 18, 128],
    "parity": [1, 2, 65],
    "python_bytes": [1, 63, 1000],
    "selective_copy": [33, 34, 129],
    "smnist5k": [49, 196, 784, 3136, 12544],
}
GENERATED = [name for name, cls in TASKS.items() if issubclass(cls, GeneratedTask)]
REAL = [name for name in TASKS if name not in GENERATED]
COUNTED_ALIKE = 1e-5  # relative: float32 sums of the same terms in another order
STANDARD_ERRORS = 3.0


def take(task: Task, split: Split, indices: Tensor | int, seed: int = 0) -> Batch:
    """Examples of a task, or skip where its data is not installed."""
    if isinstance(indices, int):
        indices = torch.arange(indices)
    try:
        return task.examples(split, seed, indices)
    except MissingPackageError as error:
        pytest.skip(str(error))


def rows(batch: Batch) -> list[bytes]:
    """Each example as bytes."""
    return [
        inputs.numpy().tobytes() + targets.numpy().tobytes()
        for inputs, targets in zip(batch.inputs, batch.targets, strict=True)
    ]


def input_digests(batch: Batch) -> set[bytes]:
    return {hashlib.sha256(inputs.numpy().tobytes()).digest() for inputs in batch.inputs}


def n_of(task: Task, split: Split, at_most: int) -> int:
    size = task.size(split)
    return at_most if size is None else min(size, at_most)


def answers(task: Task, batch: Batch, seed: int) -> Tensor:
    """What an untrained network of seeded weights makes of a batch: (B, T, K) or (B, K)."""
    rng, width = generator("untrained", seed), 16
    if isinstance(task.inputs, Tokens):
        x = torch.randn(task.inputs.vocabulary, width, generator=rng)[batch.inputs]
    else:
        weights = torch.randn(task.length, task.inputs.channels, width, generator=rng)
        x = torch.einsum("btc,tcd->btd", batch.inputs, weights)
    past = x.cumsum(1) / torch.arange(1, task.length + 1)[:, None].sqrt()  # (B, T, width)
    hidden = torch.tanh(x + past)
    if task.kind == "per_sequence":
        hidden = hidden.mean(1)
    hidden = hidden - hidden.mean(0)  # else one class wins everywhere
    return hidden @ torch.randn(width, task.n_outputs, generator=rng)


@pytest.fixture(autouse=True)
def _empty_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test sees blocks that another drew."""
    monkeypatch.setattr(tasks.task, "_BLOCKS", tasks.task._BlockCache())


# The registry


def test_every_task_file_is_registered() -> None:
    assert {file.stem for file in FOLDER.glob("*.py")} - SHARED_FILES == set(TASKS)
    for name, cls in TASKS.items():
        assert cls.__module__ == f"tasks.{name}"


def test_every_task_is_tested() -> None:
    assert set(EXAMPLES) == set(LENGTHS) == set(TASKS)
    assert set(SOLVERS) == set(GENERATED)


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
    one, other = cls(), cls()
    assert one == other
    assert hash(one) == hash(other)
    assert one.size("val") is not None
    assert one.size("test") is not None
    again = cls(length=one.length, **one.options())
    assert again == one
    assert "length" not in one.options()


# Examples


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


@pytest.mark.parametrize("name", [*GENERATED, "python_bytes"])
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
    assert rows(take(task, split, 20, seed=0)) == rows(take(task, split, 20, seed=1))


@pytest.mark.parametrize("name", TASKS)
def test_splits_do_not_overlap(name: str) -> None:
    task = EXAMPLES[name]
    take(task, "val", 1)
    found = {split: input_digests(take(task, split, n_of(task, split, 400))) for split in SPLITS}
    for split, digests in found.items():
        assert len(digests) == n_of(task, split, 400)
    assert not found["train"] & found["val"]
    assert not found["train"] & found["test"]
    assert not found["val"] & found["test"]


@pytest.mark.parametrize("name", TASKS)
def test_length_really_is_the_length(name: str) -> None:
    for length in LENGTHS[name]:
        task = TASKS[name](length=length)
        batch = take(task, "test", 3)
        assert batch.inputs.shape[:2] == (3, length)
        assert batch.lengths is None
        if task.kind == "per_step":
            assert batch.targets.shape == (3, length)
        else:
            assert batch.targets.shape[0] == 3


@pytest.mark.parametrize("name", TASKS)
@pytest.mark.parametrize("split", SPLITS)
def test_inputs_and_targets_are_what_the_task_says(name: str, split: Split) -> None:
    task = EXAMPLES[name]
    batch = take(task, split, n_of(task, split, 64))
    if isinstance(task.inputs, Tokens):
        assert batch.inputs.dtype == torch.int64
        assert batch.inputs.ndim == 2
        assert batch.inputs.min() >= 0
        assert batch.inputs.max() < task.inputs.vocabulary
    else:
        assert batch.inputs.dtype == torch.float32
        assert batch.inputs.shape[2:] == (task.inputs.channels,)
        assert batch.inputs.isfinite().all()
        assert batch.inputs.abs().max() <= 3  # of the order of 1, as initialisations expect
    if batch.targets.dtype == torch.float32:
        assert task.kind == "per_sequence"
        assert batch.targets.shape == (len(batch), task.n_outputs)
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
}


@pytest.mark.parametrize("name", GENERATED)
def test_the_fingerprint_changes_when_the_examples_do(name: str) -> None:
    task = EXAMPLES[name]
    digest = hashlib.sha256(b"".join(rows(take(task, "train", 64)))).hexdigest()[:16]
    assert (task.fingerprint(), digest) == FIRST_EXAMPLES[name]


# Labels, by solvers written from the definition


def solve_parity(task: Task, inputs: Tensor) -> list[int]:
    return [inputs[: step + 1].tolist().count(1) % 2 for step in range(task.length)]


def solve_adding(task: Task, inputs: Tensor) -> list[float]:
    return [sum(value for value, mark in inputs.tolist() if mark == 1)]


def solve_selective_copy(task: Task, inputs: Tensor) -> list[int]:
    assert isinstance(task, SelectiveCopy)
    blank, copy = task.vocabulary - 2, task.vocabulary - 1
    tokens = inputs.tolist()
    end = tokens.index(copy)
    kept = [token for token in tokens[:end] if token != blank]
    assert tokens[end + 1 :] == [blank] * task.n_data
    assert len(kept) == task.n_data
    return [UNSCORED] * (end + 1) + kept


def solve_mqar(task: Task, inputs: Tensor) -> list[int]:
    """Only sequences whose non-queries are 0 say which tokens are queries."""
    assert isinstance(task, Mqar)
    tokens, n = inputs.tolist(), task.n_pairs
    value_of = dict(zip(tokens[0 : 2 * n : 2], tokens[1 : 2 * n : 2], strict=True))
    assert len(value_of) == len(set(value_of.values())) == n
    assert all(0 < key < task.vocabulary // 2 for key in value_of)
    assert all(task.vocabulary // 2 <= value < task.vocabulary for value in value_of.values())
    rest = tokens[2 * n :]
    assert all(token == 0 for token in rest[1::2])
    assert sorted(token for token in rest if token) == sorted(value_of)
    return [UNSCORED] * 2 * n + [value_of[token] if token else UNSCORED for token in rest]


SOLVERS = {
    "adding": solve_adding,
    "mqar": solve_mqar,
    "parity": solve_parity,
    "selective_copy": solve_selective_copy,
}


@pytest.mark.parametrize("name", GENERATED)
def test_labels_agree_with_a_slow_solver(name: str) -> None:
    task = EXAMPLES[name]
    if isinstance(task, Mqar):
        task = replace(task, random_non_queries=False)
    for split in SPLITS:
        batch = take(task, split, 100)
        for inputs, targets in zip(batch.inputs, batch.targets, strict=True):
            assert targets.tolist() == pytest.approx(SOLVERS[name](task, inputs), abs=1e-6)


def test_mqar_with_random_non_queries_differs_nowhere_else() -> None:
    plain = take(Mqar(random_non_queries=False), "train", 100)
    filled = take(Mqar(random_non_queries=True), "train", 100)
    # The fillers are drawn last, so that pairs and queries of the first block are the same.
    first = slice(0, tasks.task.BLOCK_EXAMPLES)
    assert torch.equal(plain.targets[first], filled.targets[first])
    given = plain.inputs[first] != 0
    assert torch.equal(plain.inputs[first][given], filled.inputs[first][given])
    fillers = filled.inputs[first][~given]
    assert fillers.max() > 8000
    assert fillers.unique().numel() > 1000


# Distributions


def within(observed: float, expected: float, standard_error: float) -> bool:
    return abs(observed - expected) <= STANDARD_ERRORS * standard_error


def test_within_tells_a_wrong_frequency() -> None:
    assert within(0.26, 0.25, 0.01)
    assert not within(0.29, 0.25, 0.01)
    assert not within(0.21, 0.25, 0.01)


def test_adding_marks_one_place_in_each_half_and_all_alike() -> None:
    for length in (10, 11):
        marks = take(Adding(length=length, n_test=4000), "test", 4000).inputs[:, :, 1]
        half = length // 2
        assert (marks[:, :half].sum(1) == 1).all()
        assert (marks[:, half:].sum(1) == 1).all()
        for places in (marks[:, :half], marks[:, half:]):
            p = 1 / places.shape[1]
            error = math.sqrt(p * (1 - p) / len(marks))
            # Four standard errors: up to six places are looked at.
            assert all(abs(share - p) < 4 * error for share in places.mean(0).tolist())


def test_mqar_queries_come_by_the_power_law_without_replacement() -> None:
    task = Mqar(length=64, n_pairs=4, random_non_queries=False, n_test=4000)
    inputs = take(task, "test", 4000).inputs
    first_key = (inputs[:, 8:] == inputs[:, :1]).float().argmax(1) // 2  # its slot
    second_key = (inputs[:, 8:] == inputs[:, 2:3]).float().argmax(1) // 2
    weights = [slot ** (0.01 - 1) for slot in range(1, 29)]
    total = sum(weights)
    assert weights[0] / total == pytest.approx(0.25, abs=0.005)
    for slot in (0, 1, 5):
        p = weights[slot] / total
        error = math.sqrt(p * (1 - p) / 4000)
        assert within((first_key == slot).float().mean().item(), p, error)
    # The second key is drawn from what the first one left.
    p = sum(w / total * weights[0] / (total - w) for w in weights[1:])
    error = math.sqrt(p * (1 - p) / 4000)
    assert within((second_key == 0).float().mean().item(), p, error)


def test_mqar_keys_and_values_are_uniform() -> None:
    inputs = take(Mqar(length=16, n_pairs=2, vocabulary=18, n_test=4000), "test", 4000).inputs
    for column, choices in ((0, range(1, 9)), (2, range(1, 9)), (1, range(9, 18))):
        shares = [(inputs[:, column] == choice).float().mean().item() for choice in choices]
        p = 1 / len(choices)
        assert sum(shares) == pytest.approx(1)
        assert max(abs(share - p) for share in shares) < 4 * math.sqrt(p * (1 - p) / 4000)


def test_selective_copy_strews_the_data_evenly() -> None:
    task = SelectiveCopy(length=21, n_data=4, n_test=4000)
    context = take(task, "test", 4000).inputs[:, :16]
    shares = (context != task.vocabulary - 2).float().mean(0)
    p = 4 / 16
    assert (shares - p).abs().max() < 4 * math.sqrt(p * (1 - p) / 4000)


# Chance


@pytest.mark.parametrize("name", [*GENERATED, "digits", "smnist5k"])
def test_answers_of_other_examples_score_at_chance(name: str) -> None:
    """Blind guessing with the right distribution of answers."""
    task = EXAMPLES[name]
    batch = take(task, "test", n_of(task, "test", 1024))
    (metric,) = task.metrics
    if batch.targets.dtype == torch.float32:
        # The best blind answer to a regression is the mean.
        errors = (batch.targets - 1).square()
        assert within(errors.mean().item(), metric.chance, errors.std().item() / len(batch) ** 0.5)
        assert within(
            batch.targets.mean().item(), 1, batch.targets.std().item() / len(batch) ** 0.5
        )
        return
    scored = batch.targets[batch.targets != UNSCORED].view(len(batch), -1)
    guesses = torch.nn.functional.one_hot(scored.roll(1, 0), task.n_outputs).float()
    right, count = task.score(guesses, scored)[metric.name]
    p = metric.chance
    assert within((right / count).item(), p, math.sqrt(p * (1 - p) / count.item()))


@pytest.mark.parametrize("name", ["parity", "selective_copy", "digits", "smnist5k"])
def test_untrained_networks_score_at_chance(name: str) -> None:
    task = EXAMPLES[name]
    batch = take(task, "test", 256)
    scores = []
    for seed in range(16):
        right, count = task.score(answers(task, batch, seed), batch.targets)["accuracy"]
        scores.append(right / count)
    found = torch.stack(scores)
    assert found.std() > 0
    assert within(found.mean().item(), task.metrics[0].chance, found.std().item() / 4)


def test_the_uniform_guess_has_8_bits_per_byte() -> None:
    task = EXAMPLES["python_bytes"]
    batch = take(task, "test", 3)
    bits, count = task.score(torch.zeros(3, 100, 256), batch.targets)["bits_per_byte"]
    assert count == 300
    assert (bits / count).item() == pytest.approx(task.metrics[0].chance) == pytest.approx(8)


# Scoring


@pytest.mark.parametrize("name", TASKS)
def test_metrics_of_64_equal_those_of_32_and_32_with_different_masks(name: str) -> None:
    task = EXAMPLES[name]
    batch = take(task, "test", 64)
    targets = batch.targets.clone()
    if targets.dtype == torch.int64 and task.kind == "per_step":
        targets[:32, : task.length - 2] = UNSCORED
    outputs = answers(task, batch, 0)
    halves = [task.score(outputs[part], targets[part]) for part in (slice(32), slice(32, 64))]
    whole = task.score(outputs, targets)
    assert list(whole) == [metric.name for metric in task.metrics]
    for metric, (total, count) in whole.items():
        assert total.ndim == count.ndim == 0
        assert total.dtype == count.dtype == torch.float32
        assert sum(half[metric].count.item() for half in halves) == count.item()
        summed = sum(half[metric].sum.item() for half in halves)
        assert summed == pytest.approx(total.item(), rel=COUNTED_ALIKE)
    loss, count = task.loss(outputs, targets)
    parts = [task.loss(outputs[part], targets[part]) for part in (slice(32), slice(32, 64))]
    assert sum(part.sum.item() for part in parts) == pytest.approx(loss.item(), rel=COUNTED_ALIKE)
    assert sum(part.count.item() for part in parts) == count.item()


@pytest.mark.parametrize("name", [n for n in TASKS if TASKS[n].kind == "per_step"])
def test_unscored_positions_change_nothing(name: str) -> None:
    task = EXAMPLES[name]
    batch = take(task, "test", 8)
    targets = batch.targets.clone()
    targets[:, ::3] = UNSCORED
    outputs = answers(task, batch, 0)
    other = torch.where((targets == UNSCORED)[..., None], 100 * torch.randn_like(outputs), outputs)
    assert not torch.equal(outputs, other)
    before, after = task.score(outputs, targets), task.score(other, targets)
    assert {k: v.sum.item() for k, v in before.items()} == {
        k: v.sum.item() for k, v in after.items()
    }
    other.requires_grad_()
    loss, count = task.loss(other, targets)
    assert loss.item() == task.loss(outputs, targets).sum.item()
    assert count.item() == (targets != UNSCORED).sum().item()
    (gradient,) = torch.autograd.grad(loss, other)
    assert (gradient[targets == UNSCORED] == 0).all()
    assert (gradient[targets != UNSCORED] != 0).any()


@pytest.mark.parametrize("name", TASKS)
def test_the_loss_falls_along_its_gradient(name: str) -> None:
    task = EXAMPLES[name]
    batch = take(task, "train", 4)
    outputs = answers(task, batch, 0).requires_grad_()
    before = task.loss(outputs, batch.targets).sum
    (gradient,) = torch.autograd.grad(before, outputs)
    after = task.loss(outputs - 0.01 * gradient, batch.targets).sum
    assert after < before


@pytest.mark.parametrize("name", TASKS)
def test_right_answers_score_best(name: str) -> None:
    task = EXAMPLES[name]
    batch = take(task, "test", 16)
    if batch.targets.dtype == torch.float32:
        perfect, best = batch.targets, 0.0
    else:
        labels = batch.targets.clamp(min=0)
        perfect = 100 * torch.nn.functional.one_hot(labels, task.n_outputs).float()
        best = 1.0 if task.metrics[0].higher_is_better else 0.0
    total, count = task.score(perfect, batch.targets)[task.metrics[0].name]
    assert (total / count).item() == pytest.approx(best)


def numbers(count: Count) -> tuple[float, float]:
    return count.sum.item(), count.count.item()


def test_scores_by_hand() -> None:
    outputs = torch.tensor([[[2.0, 0.0], [0.0, 2.0]], [[2.0, 0.0], [9.0, 0.0]]])
    labels = torch.tensor([[0, 0], [UNSCORED, 0]])
    assert numbers(accuracy(outputs, labels)) == (2.0, 3.0)
    nats, count = cross_entropy(outputs, labels)
    expected = math.log1p(math.exp(-2)) + math.log1p(math.exp(2)) + math.log1p(math.exp(-9))
    assert nats.item() == pytest.approx(expected)
    assert count == 3
    assert numbers(cross_entropy(outputs, torch.full((2, 2), UNSCORED))) == (0.0, 0.0)
    error = squared_error(torch.tensor([[1.0], [3.0]]), torch.tensor([[0.0], [1.0]]))
    assert numbers(error) == (5.0, 2.0)


def test_half_precision_outputs_are_scored_in_single_precision() -> None:
    outputs = torch.zeros(4, 2048, 7, dtype=torch.bfloat16)
    nats, _ = cross_entropy(outputs, torch.zeros(4, 2048, dtype=torch.int64))
    assert nats.item() == pytest.approx(4 * 2048 * math.log(7), rel=1e-5)


# Bad fields


@pytest.mark.parametrize(
    ("name", "fields", "message"),
    [
        ("parity", {"length": 0}, "length must be an integer of at least 1, not 0"),
        ("parity", {"length": 8.0}, "length must be an integer of at least 1, not 8.0"),
        ("parity", {"length": True}, "length must be an integer of at least 1, not True"),
        ("parity", {"n_train": 0}, "n_train must be an integer of at least 1, not 0"),
        ("parity", {"n_val": None}, "n_val must be an integer of at least 1, not None"),
        ("parity", {"n_test": -1}, "n_test must be an integer of at least 1, not -1"),
        ("adding", {"length": 1}, "length must be an integer of at least 2, not 1"),
        (
            "selective_copy",
            {"length": 32},
            r"length must be at least 2 \* n_data \+ 1 = 33, not 32",
        ),
        ("selective_copy", {"n_data": 0}, "n_data must be an integer of at least 1, not 0"),
        ("selective_copy", {"vocabulary": 3}, "vocabulary must be an integer of at least 4, not 3"),
        ("mqar", {"length": 65}, "length must be even, not 65"),
        (
            "mqar",
            {"length": 64, "n_pairs": 17},
            r"length must be at least 4 \* n_pairs = 68, not 64",
        ),
        ("mqar", {"n_pairs": 0}, "n_pairs must be an integer of at least 1, not 0"),
        ("mqar", {"vocabulary": 64}, "vocabulary must be larger than length = 64, not 64"),
        ("mqar", {"power_a": 0}, "power_a must be above 0 and at most 1, not 0"),
        ("mqar", {"power_a": math.nan}, "power_a must be above 0 and at most 1, not nan"),
        ("mqar", {"power_a": "1"}, "power_a must be a number, not '1'"),
        ("mqar", {"random_non_queries": 1}, "random_non_queries must be true or false, not 1"),
        ("digits", {"length": 65}, r"length must be one of \[16, 64, 256, 1024\], not 65"),
        ("smnist5k", {"length": 28}, r"one of \[49, 196, 784, 3136, 12544\], not 28"),
        (
            "python_bytes",
            {"length": 70000},
            "length must be at most n_eval_bytes = 65536, not 70000",
        ),
        ("python_bytes", {"n_eval_bytes": 0}, "n_eval_bytes must be an integer of at least 1"),
    ],
)
def test_bad_fields_raise_and_say_what_is_valid(
    name: str, fields: dict[str, object], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        TASKS[name](**fields)  # type: ignore[arg-type]
