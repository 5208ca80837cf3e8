"""Memory, recall and state tracking: what is drawn follows the publications."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace
from fractions import Fraction
from functools import cache
from itertools import product

import pytest
import torch
from torch import Tensor
from torch.nn.functional import one_hot

from tasks import TASKS
from tasks.adding import Adding
from tasks.copy_memory import CopyMemory
from tasks.data import standard_library
from tasks.dyck import Dyck, opening_probabilities
from tasks.induction import Induction
from tasks.modular_arithmetic import ModularArithmetic
from tasks.mqar import Mqar
from tasks.needle import ASKED, NEEDLE, Needle
from tasks.parity import Parity
from tasks.stack_manipulation import StackManipulation
from tasks.strings import StringTask
from tasks.task import SPLITS, UNSCORED, Batch, Count, Task
from tasks.temporal_order import TemporalOrder
from tasks.word_problem import GROUPS, WordProblem, multiplication_table
from tests import cases_memory

STRINGS: dict[str, StringTask] = {
    "parity": Parity(length=20),
    "modular_arithmetic_brackets": ModularArithmetic(length=20, brackets=True),
    "word_problem_s5": WordProblem(length=20, group="S5"),
    **{n: t for n, t in cases_memory.EXAMPLES.items() if isinstance(t, StringTask)},
}
STRINGS = {name: replace(task, length=20, n_test=4000) for name, task in STRINGS.items()}
SOLVERS = {
    "parity": lambda _, inputs: [sum(inputs[: t + 1].tolist()) % 2 for t in range(len(inputs))],
    "modular_arithmetic_brackets": cases_memory.solve_modular_arithmetic,
    "word_problem_s5": cases_memory.solve_word_problem,
    **cases_memory.SOLVERS,
}
N = 4000
STANDARD_ERRORS = 4.0  # hundreds of frequencies are looked at


def take(task: Task, n: int = N, split: str = "test", seed: int = 0) -> Batch:
    """Examples of a task."""
    return task.examples(split, seed, torch.arange(n))  # type: ignore[arg-type]


def near(observed: float, expected: float, n: int = N) -> bool:
    """Whether a share of n is what it should be."""
    error = math.sqrt(max(expected * (1 - expected), 1 / n) / n)
    return abs(observed - expected) <= STANDARD_ERRORS * error


def uniform(found: Tensor, choices: range) -> bool:
    """Whether integers are uniform over the choices, and no others."""
    shares = [(found == choice).double().mean().item() for choice in choices]
    return sum(shares) == pytest.approx(1) and all(
        near(share, 1 / len(choices), found.numel()) for share in shares
    )


def test_uniform_and_near_tell_what_is_not() -> None:
    assert near(0.26, 0.25)
    assert not near(0.30, 0.25)
    assert uniform(torch.arange(4000) % 5, range(5))
    assert not uniform(torch.arange(4000) % 5, range(4))
    assert not uniform(torch.arange(4000) % 5, range(6))
    assert not uniform((torch.arange(4000) % 5).clamp(max=3), range(4))


# Strings of any length


def test_every_string_task_is_here() -> None:
    assert {type(task) for task in STRINGS.values()} == {
        cls for cls in TASKS.values() if issubclass(cls, StringTask)
    }


@pytest.mark.parametrize("name", STRINGS)
def test_training_lengths_are_uniform_and_held_out_ones_are_the_length(name: str) -> None:
    task = replace(STRINGS[name], shortest=7)
    lengths = take(task, split="train", seed=1).lengths
    assert lengths is not None
    valid = [n for n in range(7, 21) if (n - task.least) % task.stride == 0]
    shares = [(lengths == n).double().mean().item() for n in valid]
    assert sum(shares) == pytest.approx(1)
    assert all(near(share, 1 / len(valid)) for share in shares)
    for split in ("val", "test"):
        lengths = take(task, 20, split).lengths
        assert lengths is not None
        assert set(lengths.tolist()) == {max(valid)}


@pytest.mark.parametrize("name", STRINGS)
def test_strings_of_any_length_have_the_right_answers_and_padding_on_the_right(name: str) -> None:
    task = replace(STRINGS[name], shortest=STRINGS[name].least)
    batch = take(task, 300, "train", seed=5)
    assert batch.inputs.shape == (300, 20)
    assert batch.lengths is not None
    for inputs, targets, n in zip(batch.inputs, batch.targets, batch.lengths.tolist(), strict=True):
        assert (inputs[n:] == 0).all()
        expected = SOLVERS[name](replace(task, shortest=None, length=n), inputs[:n])
        if isinstance(expected, list):
            expected += [UNSCORED] * (len(targets) - len(expected))
        assert targets.tolist() == expected


@pytest.mark.parametrize("name", STRINGS)
def test_every_length_is_a_task_with_the_same_model(name: str) -> None:
    first = STRINGS[name]
    for length in [*range(first.least, 14), 101]:
        task = replace(first, length=length)
        batch = take(task, 3)
        assert batch.inputs.shape == (3, length)
        assert (task.inputs, task.n_outputs) == (first.inputs, first.n_outputs)
        real = task.longest
        assert 0 < real <= length
        assert (batch.lengths is None) == (real == length)
        solved = SOLVERS[name](task, batch.inputs[0, :real])
        targets = batch.targets[0]
        if isinstance(solved, list):
            targets, solved = targets[targets != UNSCORED], [x for x in solved if x != UNSCORED]
        assert targets.tolist() == solved


def test_a_short_string_of_test_may_be_one_of_train_as_often_as_drawing_says() -> None:
    n_train = 1000
    for length in (10, 12, 60):
        task = Parity(length=length, n_test=N)
        seen = set(map(tuple, take(task, n_train, "train").inputs.tolist()))
        share = sum(tuple(bits) in seen for bits in take(task).inputs.tolist()) / N
        # The number of different strings in train varies little beside the share's own error.
        assert abs(share - (1 - (1 - 2.0**-length) ** n_train)) < 0.04


# Chance and trivial rules


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
