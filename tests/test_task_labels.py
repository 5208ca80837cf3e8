"""Labels of generated tasks, by solvers written from the definition, and distributions."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

import tasks
import tasks.task
from tasks import TASKS
from tasks.adding import Adding
from tasks.mqar import Mqar
from tasks.selective_copy import SelectiveCopy
from tasks.task import (
    SPLITS,
    UNSCORED,
    Task,
)
from tests import task_cases
from tests.example_tasks import (
    EXAMPLES,
    GENERATED,
    LENGTHS,
    take,
    within,
)

pytestmark = pytest.mark.usefixtures("own_blocks", "small_data_sets")


def test_every_task_is_tested() -> None:
    assert set(EXAMPLES) == set(LENGTHS) == set(TASKS)
    assert set(SOLVERS) == set(GENERATED)


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
    **task_cases.by_name("SOLVERS"),
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
