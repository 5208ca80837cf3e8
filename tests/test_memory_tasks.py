"""Memory, recall and state tracking: what is drawn follows the publications."""

from __future__ import annotations

import math
from collections import Counter
from itertools import product

import pytest
import torch
from torch import Tensor
from torch.nn.functional import one_hot

from tasks import TASKS
from tasks.copy_memory import CopyMemory
from tasks.data import standard_library
from tasks.dyck import Dyck, opening_probabilities
from tasks.induction import Induction
from tasks.modular_arithmetic import ModularArithmetic
from tasks.needle import ASKED, NEEDLE, Needle
from tasks.stack_manipulation import StackManipulation
from tasks.task import SPLITS
from tasks.temporal_order import TemporalOrder
from tasks.word_problem import GROUPS, WordProblem, multiplication_table
from tests.frequencies import N, near, take, uniform


def test_uniform_and_near_tell_what_is_not() -> None:
    assert near(0.26, 0.25)
    assert not near(0.30, 0.25)
    assert uniform(torch.arange(4000) % 5, range(5))
    assert not uniform(torch.arange(4000) % 5, range(4))
    assert not uniform(torch.arange(4000) % 5, range(6))
    assert not uniform((torch.arange(4000) % 5).clamp(max=3), range(4))


# What is drawn


def test_marks_stand_in_their_tenths_and_all_alike() -> None:
    for n_marks, windows in ((2, (1, 5)), (3, (1, 3, 6))):
        inputs = take(TemporalOrder(length=53, n_marks=n_marks, n_test=N)).inputs
        assert ((inputs < 2).sum(1) == n_marks).all()
        places = (inputs < 2).nonzero()[:, 1].view(N, n_marks)
        for column, tenth in enumerate(windows):
            first = int(53 * tenth / 10)
            assert uniform(places[:, column], range(first, first + 5))
        assert uniform(inputs[inputs < 2], range(2))
        assert uniform(inputs[inputs >= 2], range(2, 6))


def test_the_trigger_stands_anywhere_but_at_the_end() -> None:
    inputs = take(Induction(length=11, vocabulary=5, n_test=N)).inputs
    assert uniform((inputs == 4).int().argmax(1), range(8))
    assert uniform(inputs[inputs != 4], range(4))


def test_copied_symbols_are_uniform() -> None:
    assert uniform(take(CopyMemory(length=30, n_test=N)).inputs[:, :10], range(1, 9))


def test_stacks_have_any_size_and_actions_are_alike_likely() -> None:
    inputs = take(StackManipulation(length=12, n_test=N)).inputs
    sizes = (inputs < 2).sum(1)
    assert uniform(sizes, range(1, 12))
    assert uniform(inputs[inputs < 2], range(2))
    assert uniform(inputs[inputs >= 2], range(2, 5))


def test_brackets_split_anywhere() -> None:
    """(left op right) of 11 tokens: the left part has 1 to 7."""
    inputs = take(ModularArithmetic(length=11, brackets=True, n_test=N)).inputs
    depth = (inputs == 8).int() - (inputs == 9).int()
    level = depth.cumsum(1)  # 1 at what belongs to the outer bracket
    operator = (inputs >= 5) & (inputs < 8) & (level == 1)
    # A sign stands after an opening bracket or an operator, an operator after neither.
    before = inputs.roll(1, 1)
    operator &= (before < 5) | (before == 9)
    assert (operator.sum(1) == 1).all()
    assert uniform(operator.int().argmax(1) - 1, range(1, 8))
    assert uniform(inputs[operator], range(5, 8))
    assert uniform(inputs[inputs < 5], range(5))


def test_without_brackets_digits_and_operators_are_uniform() -> None:
    inputs = take(ModularArithmetic(length=9, n_test=N)).inputs
    assert uniform(inputs[:, ::2], range(5))
    assert uniform(inputs[:, 1::2], range(5, 8))
    sums = take(ModularArithmetic(length=9, multiply=False, n_test=N)).inputs
    assert uniform(sums[:, 1::2], range(5, 7))


def published_weight(string: tuple[int, ...], depth: int) -> float:
    """How likely the process writes this string of one kind of bracket, and then ends."""
    open_brackets, weight = 0, 1.0
    for symbol in (*string, 2):
        weights = {0: 1.0 if open_brackets < depth else 0.0, 1 if open_brackets else 2: 1.0}
        weight *= weights.get(symbol, 0.0) / sum(weights.values())
        open_brackets += {0: 1, 1: -1, 2: 0}[symbol]
    return weight


@pytest.mark.parametrize(("length", "depth", "n_strings"), [(6, 2, 4), (8, 3, 13), (8, 1, 1)])
def test_dyck_strings_are_those_of_the_published_process_of_their_length(
    length: int, depth: int, n_strings: int
) -> None:
    task = Dyck(length=length, kinds=1, depth=depth, n_test=N)
    ours = Counter(map(tuple, take(task).inputs.tolist()))
    weights = {s: published_weight(s, depth) for s in product((0, 1), repeat=length)}
    possible = {string: weight for string, weight in weights.items() if weight}
    assert len(possible) == n_strings
    assert set(ours) <= set(possible)
    for string, weight in possible.items():
        assert near(ours[string] / N, weight / sum(possible.values()))


def test_dyck_kinds_are_uniform_and_long_strings_do_not_underflow() -> None:
    inputs = take(Dyck(length=20, kinds=3, n_test=N)).inputs
    assert uniform(inputs[inputs < 3], range(3))
    probabilities = opening_probabilities(20_000, 3)
    assert (probabilities[10_001::2, [0, 2]] == 0).all()  # an odd number is left at an odd depth
    assert probabilities[20_000, 0] == 1.0
    assert probabilities[19_998, 2] == pytest.approx(probabilities[998, 2])
    assert 0 < probabilities[19_998, 2] < 1


# Groups


def orders(group: str) -> list[int]:
    """The sizes of the derived series."""
    table = multiplication_table(group)
    n = len(table)
    assert torch.equal(table[0], torch.arange(n))
    inverse = (table == 0).int().argmax(1)
    found, now = [], set(range(n))
    while True:
        found.append(len(now))
        members = torch.tensor(sorted(now))
        a, b = torch.cartesian_prod(members, members).T
        commutators = table[table[inverse[a], inverse[b]], table[a, b]].unique()
        derived = set(commutators.tolist())
        while (grown := set(table[list(derived)][:, list(derived)].flatten().tolist())) != derived:
            derived = grown
        if derived == now or derived == {0}:
            return [*found, len(derived)]
        now = derived


@pytest.mark.parametrize(
    ("group", "series"),
    [("S5", [120, 60, 60]), ("A5", [60, 60]), ("Z60", [60, 1]), ("A4_x_Z5", [60, 4, 1])],
)
def test_groups_are_solvable_or_not_as_they_should_be(group: str, series: list[int]) -> None:
    assert orders(group) == series


@pytest.mark.parametrize("group", GROUPS)
def test_groups_are_groups(group: str) -> None:
    table = multiplication_table(group)
    n = len(table)
    everything = torch.arange(n)
    assert all(torch.equal(row.sort().values, everything) for row in (*table, *table.T))
    a, b, c = torch.randint(n, (3, 5000), generator=torch.Generator().manual_seed(0))
    assert torch.equal(table[table[a, b], c], table[a, table[b, c]])
    assert WordProblem(group=group).metrics[0].chance == 1 / n


# Needles


def test_needles_lie_in_real_text_of_their_split() -> None:
    for split in SPLITS:
        text = bytes(standard_library.read("needle")[split].numpy())
        batch = take(Needle(length=400, n_needles=3), 20, split)
        for row in batch.inputs.tolist():
            body = bytes(row[:-ASKED])
            for _ in range(3):
                start = body.index(NEEDLE[:22])
                assert body[start + len(NEEDLE) - 2 : start + len(NEEDLE)] == b".\n"
                body = body[:start] + body[start + len(NEEDLE) :]
            assert len(body) == 400 - ASKED - 3 * len(NEEDLE)
            assert body in text


def offsets_of_the_asked(task: Needle, n: int) -> Tensor:
    """Bytes before the needle that is asked for, others and all."""
    found = []
    for row in take(task, n).inputs.tolist():
        question = bytes(row[-ASKED : -ASKED + 26])  # up to its key
        found.append(bytes(row).index(question))
    return torch.tensor(found)


def test_depth_is_where_the_asked_needle_lies() -> None:
    n_text = 400 - ASKED - len(NEEDLE)
    for depth, expected in ((0, 0), (0.25, n_text // 4), (0.5, n_text // 2), (1.0, n_text)):
        found = offsets_of_the_asked(Needle(length=400, depth=depth), 40)
        assert ((found - expected).abs() <= 1).all()
    anywhere = offsets_of_the_asked(Needle(length=84, n_test=N), 2000)
    assert uniform(anywhere, range(84 - ASKED - len(NEEDLE) + 1))


def test_among_more_needles_any_may_be_asked() -> None:
    task = Needle(length=4 * 39 + 36, n_needles=4, n_test=N)  # needles only
    assert uniform(offsets_of_the_asked(task, N) // 39, range(4))


def test_a_number_is_exact_only_if_all_of_it_is() -> None:
    task = Needle(length=100)
    batch = take(task, 4)
    outputs = 100 * one_hot(batch.targets.clamp(min=0), 256).float()
    outputs[1, -1] = -outputs[1, -1]
    outputs[2, 10] = -outputs[2, 10]  # not scored
    scores = task.score(outputs, batch.targets)
    assert [x.item() for x in scores["exact"]] == [3.0, 4.0]
    assert [x.item() for x in scores["accuracy"]] == [27.0, 28.0]


# Fields


@pytest.mark.parametrize(
    ("name", "fields", "message"),
    [
        ("parity", {"shortest": 0}, "shortest must be an integer of at least 1, not 0"),
        ("parity", {"length": 5, "shortest": 6}, "shortest 6 is more than length 5"),
        ("dyck", {"length": 1}, "length must be an integer of at least 2, not 1"),
        ("dyck", {"shortest": 1}, "shortest must be an integer of at least 2, not 1"),
        ("dyck", {"kinds": 0}, "kinds must be an integer of at least 1, not 0"),
        ("dyck", {"depth": 2.0}, "depth must be an integer of at least 1, not 2.0"),
        ("word_problem", {"group": "a5"}, "no group 'a5'; did you mean 'A5'.*S5, A5, Z60, A4_x_Z5"),
        ("word_problem", {"group": 5}, "no group 5; did you mean"),
        ("cycle_navigation", {"places": 2}, "places must be an integer of at least 3, not 2"),
        ("modular_arithmetic", {"modulus": 1}, "modulus must be an integer of at least 2, not 1"),
        ("modular_arithmetic", {"brackets": 1}, "brackets must be true or false, not 1"),
        ("modular_arithmetic", {"multiply": None}, "multiply must be true or false, not None"),
        ("reverse_string", {"symbols": 1}, "symbols must be an integer of at least 2, not 1"),
        ("copy_memory", {"length": 20}, r"at least 2 \* n_data \+ 1 = 21, not 20"),
        ("copy_memory", {"alphabet": 1}, "alphabet must be an integer of at least 2, not 1"),
        ("copy_memory", {"n_data": 0}, "n_data must be an integer of at least 1, not 0"),
        ("induction", {"length": 3}, "length must be an integer of at least 4, not 3"),
        ("induction", {"vocabulary": 2}, "vocabulary must be an integer of at least 3, not 2"),
        ("temporal_order", {"n_marks": 4}, "n_marks must be 2 or 3, not 4"),
        ("temporal_order", {"length": 9}, "length must be an integer of at least 10, not 9"),
        ("needle", {"n_needles": 0}, "n_needles must be an integer of at least 1, not 0"),
        ("needle", {"length": 74}, r"at least 39 \* n_needles \+ 36 = 75, not 74"),
        ("needle", {"depth": 1.5}, "depth must be from 0 to 1, not 1.5"),
        ("needle", {"depth": math.nan}, "depth must be from 0 to 1, not nan"),
        ("needle", {"depth": "top"}, "depth must be a number from 0 to 1, or none, not 'top'"),
    ],
)
def test_bad_fields_raise_and_say_what_is_valid(
    name: str, fields: dict[str, object], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        TASKS[name](**fields)  # type: ignore[arg-type]
