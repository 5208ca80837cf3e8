"""Examples, lengths and slow solvers of the Long Range Arena tasks, for the laws of every task."""

from __future__ import annotations

from torch import Tensor

from tasks.docstring_pairs import DocstringPairs
from tasks.image import Image
from tasks.listops import Listops
from tasks.pathfinder import Pathfinder
from tasks.pathx import PathX
from tasks.retrieval import Retrieval
from tasks.task import Task
from tasks.text import Text

EXAMPLES: dict[str, Task] = {
    "docstring_pairs": DocstringPairs(length=61),
    "image": Image(length=64),
    "listops": Listops(length=100),
    "pathfinder": Pathfinder(contour_length=6, n_train=500, n_val=100, n_test=100),
    "pathx": PathX(contour_length=6, n_train=8, n_val=4, n_test=4),
    "retrieval": Retrieval(length=31),
    "text": Text(length=31),
}
LENGTHS: dict[str, list[int]] = {
    "docstring_pairs": [1, 63, 512],
    "image": [64, 256, 1024],
    "listops": [19, 64, 501],
    "pathfinder": [1024],
    "pathx": [16384],
    "retrieval": [1, 33],
    "text": [1, 33],
}

SYMBOLS = ["", *"0123456789", "[MIN", "[MAX", "[MED", "[SM", "]"]


def value_of(tokens: list[str]) -> int:
    """The value of an expression, from its definition; takes its tokens off the list."""
    token = tokens.pop(0)
    if token.isdigit():
        return int(token)
    arguments = []
    while tokens[0] != "]":
        arguments.append(value_of(tokens))
    tokens.pop(0)
    ordered = sorted(arguments)
    n = len(ordered)
    median = ordered[n // 2] if n % 2 else (ordered[n // 2 - 1] + ordered[n // 2]) // 2
    return {
        "[MIN": ordered[0],
        "[MAX": ordered[-1],
        "[MED": median,
        "[SM": sum(arguments) % 10,
    }[token]


def solve_listops(task: Task, inputs: Tensor) -> int:
    tokens = [SYMBOLS[symbol] for symbol in inputs.tolist() if symbol]
    found = value_of(tokens)
    assert not tokens
    return found


SOLVERS = {"listops": solve_listops}
