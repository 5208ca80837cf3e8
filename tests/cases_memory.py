"""Memory, recall and state tracking, for the laws of a task: examples, lengths, slow solvers."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from torch import Tensor

from tasks.copy_memory import CopyMemory
from tasks.cycle_navigation import CycleNavigation
from tasks.dyck import Dyck
from tasks.even_pairs import EvenPairs
from tasks.induction import Induction
from tasks.modular_arithmetic import ModularArithmetic
from tasks.needle import Needle
from tasks.reverse_string import ReverseString
from tasks.stack_manipulation import StackManipulation
from tasks.task import UNSCORED, Task
from tasks.temporal_order import TemporalOrder
from tasks.word_problem import GROUPS, WordProblem

EXAMPLES: dict[str, Task] = {
    "copy_memory": CopyMemory(length=43, n_data=7),
    "cycle_navigation": CycleNavigation(length=41),
    "dyck": Dyck(length=46, kinds=5, depth=4),
    "even_pairs": EvenPairs(length=47),
    "induction": Induction(length=37, vocabulary=9),
    "modular_arithmetic": ModularArithmetic(length=39),
    "needle": Needle(length=257, n_needles=3),
    "reverse_string": ReverseString(length=23, symbols=7),
    "stack_manipulation": StackManipulation(length=45),
    "temporal_order": TemporalOrder(length=53),
    "word_problem": WordProblem(length=13),
}
LENGTHS: dict[str, list[int]] = {
    "copy_memory": [21, 22, 129],
    "cycle_navigation": [1, 2, 65],
    "dyck": [2, 4, 128],
    "even_pairs": [1, 2, 65],
    "induction": [4, 5, 129],
    "modular_arithmetic": [1, 3, 129],
    "needle": [75, 78, 1000],
    "reverse_string": [1, 2, 65],
    "stack_manipulation": [1, 2, 65],
    "temporal_order": [10, 11, 129],
    "word_problem": [1, 2, 65],
}
NO_FIXED_EXAMPLES = {"needle"}
"""Generated around real text that differs from one Python version to the next."""


def solve_copy_memory(task: Task, inputs: Tensor) -> list[int]:
    assert isinstance(task, CopyMemory)
    tokens = inputs.tolist()
    marker = tokens.index(task.alphabet + 1)
    data = [token for token in tokens[:marker] if token]
    assert tokens[: task.n_data] == data
    assert tokens[marker + 1 :] == [0] * task.n_data
    return [0] * (marker + 1) + data


def solve_cycle_navigation(task: Task, inputs: Tensor) -> int:
    assert isinstance(task, CycleNavigation)
    place = 0
    for step in inputs.tolist():
        place += {0: -1, 1: 0, 2: 1}[step]
        place = task.places - 1 if place < 0 else 0 if place == task.places else place
    return place


def solve_dyck(task: Task, inputs: Tensor) -> list[int]:
    """The symbols are well nested, and each label is the next one, or the end."""
    assert isinstance(task, Dyck)
    symbols, stack = inputs.tolist(), []
    for symbol in symbols:
        if symbol < task.kinds:
            stack.append(symbol)
        else:
            assert stack.pop() == symbol - task.kinds
        assert len(stack) <= task.depth
    assert not stack
    return [*symbols[1:], 2 * task.kinds]


def solve_even_pairs(task: Task, inputs: Tensor) -> int:
    string = "".join(map(str, inputs.tolist()))
    # Matches that share a bit, as 01 and 10 in 010, are found by looking ahead.
    return len(re.findall("(?=01|10)", string)) % 2


def solve_induction(task: Task, inputs: Tensor) -> int:
    assert isinstance(task, Induction)
    tokens = inputs.tolist()
    trigger = tokens.pop()
    assert trigger == task.vocabulary - 1
    assert tokens.count(trigger) == 1
    answer: int = tokens[tokens.index(trigger) + 1]
    return answer


def solve_modular_arithmetic(task: Task, inputs: Tensor) -> int:
    """By Python's own rules of precedence."""
    assert isinstance(task, ModularArithmetic)
    digits = [str(digit) for digit in range(task.modulus)]
    value: int = eval("".join([*digits, *"+-*()"][token] for token in inputs.tolist()))
    return value % task.modulus


def solve_needle(task: Task, inputs: Tensor) -> list[int]:
    assert isinstance(task, Needle)
    text = bytes(inputs.tolist()).decode("latin-1")
    found = re.findall(r"\nThe magic number for ([a-z]{4}) is (\d{7})\.\n", text)
    assert len(found) == len(dict(found)) == task.n_needles
    asked = re.search(r"\nThe magic number for ([a-z]{4}) is (\d{6})$", text)
    assert asked is not None
    answer = dict(found)[asked[1]]
    assert answer.startswith(asked[2])
    return [UNSCORED] * (task.length - 7) + [ord(digit) for digit in answer]


def solve_reverse_string(task: Task, inputs: Tensor) -> list[int]:
    answer = []
    for symbol in inputs.tolist():
        answer.insert(0, symbol)
    return answer


def solve_stack_manipulation(task: Task, inputs: Tensor) -> list[int]:
    tokens, stack = inputs.tolist(), []
    n_stack = sum(token < 2 for token in tokens)
    assert all(token < 2 for token in tokens[:n_stack])
    for token in tokens:
        if token != 2:
            stack.append(token % 3)  # 0 and 1 as they are, 3 and 4 push them
        elif stack:
            stack.pop()
    answer = [*reversed(stack), 2]
    return answer + [UNSCORED] * (len(tokens) + 1 - len(answer))


def solve_temporal_order(task: Task, inputs: Tensor) -> int:
    assert isinstance(task, TemporalOrder)
    marks = [token for token in inputs.tolist() if token < 2]
    assert len(marks) == task.n_marks
    return sum(mark << place for place, mark in enumerate(marks))


def solve_word_problem(task: Task, inputs: Tensor) -> list[int]:
    """By moving things from place to place."""
    assert isinstance(task, WordProblem)
    elements = GROUPS[task.group]()
    places, answers = list(elements[0]), []
    for number in inputs.tolist():
        places = [elements[number][place] for place in places]
        answers.append(elements.index(tuple(places)))
    return answers


SOLVERS: dict[str, Callable[[Task, Tensor], Any]] = {
    "copy_memory": solve_copy_memory,
    "cycle_navigation": solve_cycle_navigation,
    "dyck": solve_dyck,
    "even_pairs": solve_even_pairs,
    "induction": solve_induction,
    "modular_arithmetic": solve_modular_arithmetic,
    "needle": solve_needle,
    "reverse_string": solve_reverse_string,
    "stack_manipulation": solve_stack_manipulation,
    "temporal_order": solve_temporal_order,
    "word_problem": solve_word_problem,
}

FIRST_EXAMPLES: dict[str, tuple[str, str]] = {
    "copy_memory": ("CopyMemory-v1", "3e69edaefc2d2a80"),
    "cycle_navigation": ("CycleNavigation-v1", "17e7ade9399c3f9b"),
    "dyck": ("Dyck-v1", "04530adf19e784ff"),
    "even_pairs": ("EvenPairs-v1", "776fbe839509d1a3"),
    "induction": ("Induction-v1", "5b4e04400939efc1"),
    "modular_arithmetic": ("ModularArithmetic-v1", "9cf13d35a24d88bc"),
    "reverse_string": ("ReverseString-v2", "bedde1e071d8ab1c"),
    "stack_manipulation": ("StackManipulation-v1", "b0790bfce95f0d67"),
    "temporal_order": ("TemporalOrder-v1", "b08abc8f5baa31e7"),
    "word_problem": ("WordProblem-v1", "f830b7e02b59358f"),
}
OTHER_CHANCE = {"dyck", "stack_manipulation"}
"""Their answers have lengths, or places of brackets, that another example does not share."""
UNTRAINED_AT_CHANCE = [
    "cycle_navigation",
    "even_pairs",
    "induction",
    "modular_arithmetic",
    "reverse_string",
    "temporal_order",
    "word_problem",
]
"""The others could also answer what is never right: a blank, a letter, an end."""
