"""Memory, recall and state tracking: blind guesses and trivial rules score what tasks say."""

from __future__ import annotations

import math
from collections import Counter
from fractions import Fraction
from functools import cache
from itertools import product

import pytest
import torch
from torch.nn.functional import one_hot

from tasks import TASKS
from tasks.adding import Adding
from tasks.copy_memory import CopyMemory
from tasks.dyck import Dyck
from tasks.modular_arithmetic import ModularArithmetic
from tasks.mqar import Mqar
from tasks.needle import NEEDLE, Needle
from tasks.parity import Parity
from tasks.stack_manipulation import StackManipulation
from tasks.task import Batch, Count, Task
from tasks.temporal_order import TemporalOrder
from tasks.word_problem import WordProblem
from tests import cases_memory
from tests.frequencies import STANDARD_ERRORS, N, near, take


def rule_score(task: Task, batch: Batch) -> Count:
    """The primary metric of the trivial rule that the task names."""
    inputs, targets = batch.inputs, batch.targets
    match task:
        case Adding():
            half = task.length // 2
            second = (inputs[:, half:, 0] * inputs[:, half:, 1]).sum(1, keepdim=True)
            return task.score(second + 0.5, targets)["mse"]
        case Parity() | WordProblem():
            guesses = inputs
        case Mqar():
            guesses = inputs[:, 1:2].expand_as(targets)
        case TemporalOrder():
            last = inputs.where(inputs < 2, -1).flip(1)
            place = (last >= 0).int().argmax(1, keepdim=True)
            guesses = 2 ** (task.n_marks - 1) * last.gather(1, place).squeeze(1)
        case Needle():
            first = [bytes(row.tolist()).index(NEEDLE[:22]) for row in inputs]
            value = NEEDLE.index(b"0")
            places = torch.tensor(first)[:, None] + value + torch.arange(7)
            guesses = torch.zeros_like(inputs)
            guesses[:, -7:] = inputs.gather(1, places)
        case Dyck():
            guesses = inputs.where(inputs >= task.kinds, inputs + task.kinds)
        case _:
            raise AssertionError(task)
    return task.score(100 * one_hot(guesses, task.n_outputs).float(), targets)[task.metrics[0].name]


@pytest.mark.parametrize(
    "task",
    [
        Adding(length=11, n_test=N),
        Parity(length=5, n_test=N),
        WordProblem(length=4, n_test=N),
        Mqar(length=16, n_pairs=2, vocabulary=32, random_non_queries=False, n_test=N),
        TemporalOrder(length=20, n_test=N),
        TemporalOrder(length=20, n_marks=3, n_test=N),
        Needle(length=300, n_needles=4, n_test=N),
        Dyck(length=20, kinds=4, n_test=N),
        Dyck(length=31, kinds=3, depth=5, n_test=N),
    ],
    ids=str,
)
def test_the_trivial_rule_scores_what_the_task_says(task: Task) -> None:
    (metric, *_) = task.metrics
    assert metric.baseline is not None
    assert metric.baseline_rule
    n = 500 if isinstance(task, Needle) else N  # 256 outputs a byte
    total, count = rule_score(task, take(task, n))
    found = total.item() / count.item()
    if isinstance(task, Adding):
        # The variance of (x - 1/2)^2 for uniform x is 1/180.
        assert abs(found - metric.baseline) < STANDARD_ERRORS * math.sqrt(1 / 180 / N)
    else:
        assert near(found, metric.baseline, n)  # of more than n answers, not all independent


@pytest.mark.parametrize("length", [1, 2, 5, 40])
def test_writing_one_bit_scores_at_chance_on_stacks(length: int) -> None:
    task = StackManipulation(length=length, n_test=N)
    batch = take(task)
    for bit in (0, 1):
        written = torch.full_like(batch.targets, bit)
        right, count = task.score_written(written, batch)["accuracy"]
        assert near((right / count).item(), task.metrics[0].chance)


@pytest.mark.parametrize("brackets", [False, True])
@pytest.mark.parametrize("multiply", [False, True])
@pytest.mark.parametrize("length", [1, 3, 5, 9, 60])
def test_zero_is_the_likeliest_value_as_often_as_stated(
    length: int, multiply: bool, brackets: bool
) -> None:
    task = ModularArithmetic(length=length, brackets=brackets, multiply=multiply, n_test=N)
    assert near((take(task).targets == 0).double().mean().item(), task.chance)
    if not multiply:
        assert task.chance == 0.2


@cache
def law_of_brackets(length: int) -> tuple[Fraction, ...]:
    """How likely each value modulo 5 is, from the grammar."""
    if length <= 4:
        return (Fraction(1, 5),) * 5
    law = [Fraction(0)] * 5
    for left in range(1, length - 3):
        laws = law_of_brackets(left), law_of_brackets(length - 3 - left)
        for a, b in product(range(5), repeat=2):
            for value in (a + b, a - b, a * b):
                law[value % 5] += laws[0][a] * laws[1][b] / (3 * (length - 4))
    return tuple(law)


@pytest.mark.parametrize("length", [4, 5, 8, 13, 20])
def test_the_likeliest_value_of_brackets_is_that_of_the_grammar(length: int) -> None:
    task = ModularArithmetic(length=length, brackets=True)
    law = law_of_brackets(length)
    assert sum(law) == 1
    assert task.chance == pytest.approx(float(max(law)), abs=1e-9)


@pytest.mark.parametrize("name", ["cycle_navigation", "even_pairs"])
@pytest.mark.parametrize("length", [1, 2, 3, 9])
def test_few_steps_have_a_likeliest_answer(name: str, length: int) -> None:
    task = TASKS[name](length=length)
    n_symbols = getattr(task.inputs, "vocabulary")  # noqa: B009
    strings = product(range(n_symbols), repeat=length)
    counted = Counter(cases_memory.SOLVERS[name](task, torch.tensor(s)) for s in strings)
    share = max(counted.values()) / counted.total()
    assert task.metrics[0].chance == pytest.approx(share, abs=1e-9)


def test_closing_one_kind_always_scores_at_chance() -> None:
    task = Dyck(length=20, kinds=4, n_test=N)
    batch = take(task)
    constant = torch.zeros(N, 20, 9)
    constant[..., 4 + 2] = 100.0
    right, count = task.score(constant, batch.targets)["closed_right"]
    assert count == N * 10
    assert near((right / count).item(), task.metrics[0].chance)
    bits, count = task.score(torch.zeros(N, 20, 9), batch.targets)["bits_per_symbol"]
    assert (bits / count).item() == pytest.approx(task.metrics[1].chance, rel=1e-5)


def test_a_bracket_is_closed_right_with_more_than_four_fifths_of_the_closing_mass() -> None:
    task = Dyck(length=2, kinds=2)
    targets = torch.tensor([[2, 4]])
    for mass, expected in ((0.79, 0.0), (0.81, 1.0)):
        outputs = torch.zeros(1, 2, 5)
        outputs[0, 0] = torch.tensor([9.0, 9.0, math.log(mass), math.log(1 - mass), 9.0])
        right, count = task.score(outputs, targets)["closed_right"]
        assert (right.item(), count.item()) == (expected, 1.0)


def test_blanks_and_then_a_guess_have_the_published_cross_entropy() -> None:
    for delay, published in ((100, 0.1733), (500, 0.0400), (1000, 0.0204), (2000, 0.0103)):
        task = CopyMemory(length=delay + 20)
        assert task.metrics[1].chance == pytest.approx(published, abs=5e-5)
    task = CopyMemory(length=43)
    batch = take(task, 64)
    outputs = torch.zeros(64, 43, 9)
    outputs[:, :-10, 0] = 100.0
    outputs[:, -10:, 0] = -100.0
    nats, count = task.score(outputs, batch.targets)["cross_entropy"]
    assert (nats / count).item() == pytest.approx(task.metrics[1].chance, rel=1e-5)
