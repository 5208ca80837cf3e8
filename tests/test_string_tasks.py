"""Tasks on strings of any length: right answers at every length, padding on the right."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tasks import TASKS
from tasks.modular_arithmetic import ModularArithmetic
from tasks.parity import Parity
from tasks.strings import StringTask
from tasks.task import UNSCORED
from tasks.word_problem import WordProblem
from tests import cases_memory
from tests.frequencies import N, near, take

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
