"""Random ListOps expressions, drawn level by level for many trees at once.

google-research/long-range-arena lra_benchmarks/data/listops.py, lines 24 to 143: a node below the
largest depth is an operation with probability 1/4, with 2 to `max_args` arguments, each a tree one
deeper; every other node is a digit; all choices are uniform. What is kept has a length within the
window. A root that is a digit is never kept, so that every root is drawn as an operation.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tasks.data.documents import Documents

Integers: TypeAlias = NDArray[np.int64]
Booleans: TypeAlias = NDArray[np.bool_]

OPERATORS = ("[MIN", "[MAX", "[MED", "[SM")
SYMBOLS = ("padding", *"0123456789", *OPERATORS, "]")
FIRST_DIGIT = SYMBOLS.index("0")
FIRST_OPERATOR = SYMBOLS.index("[MIN")
CLOSING = SYMBOLS.index("]")
P_OPERATION = 0.25
ROUND_TREES = 128
"""Trees drawn together; of the published trees whose root is an operation a third are kept."""
FEWEST_KEPT = 1e-4
"""Of the drawn trees: with fewer in the window, the options are refused."""


@dataclass(frozen=True)
class Expressions:
    """Expressions as symbols (places in SYMBOLS) and their values (N,)."""

    texts: Documents
    values: Tensor


@dataclass(frozen=True)
class _Level:
    """The nodes of one depth, those of one parent side by side."""

    tree: Integers
    parent: Integers  # place in the level above
    choice: Integers  # the operator of an operation, the digit of a leaf
    n_args: Integers  # 0: a leaf


def draw_expressions(
    rng: torch.Generator, n: int, shortest: int, longest: int, max_depth: int, max_args: int
) -> Expressions:
    """Draw n expressions of `shortest` to `longest` tokens.

    Raises:
        ValueError: hardly any expression has such a length.
    """
    texts: list[Integers] = []
    sizes: list[Integers] = []
    values: list[Integers] = []
    kept = drawn = 0
    while kept < n:
        levels = _draw(rng, ROUND_TREES, longest, max_depth, max_args)
        n_tokens = _sizes(levels)
        good = (n_tokens[0] >= shortest) & (n_tokens[0] <= longest)
        texts.append(_symbols(levels, n_tokens, good))
        sizes.append(n_tokens[0][good])
        values.append(_values(levels, max_args)[good])
        kept, drawn = kept + int(good.sum()), drawn + ROUND_TREES
        if kept < FEWEST_KEPT * drawn and drawn > 10 / FEWEST_KEPT:
            raise ValueError(
                f"{kept} of {drawn} expressions of max_depth {max_depth} and max_args {max_args} "
                f"have {shortest} to {longest} tokens: choose a larger depth or another length"
            )
    ends = torch.from_numpy(np.concatenate(sizes).cumsum())
    symbols = torch.from_numpy(np.concatenate(texts).astype(np.uint8))
    return Expressions(Documents(symbols, ends[:n]), torch.from_numpy(np.concatenate(values)[:n]))


def _draw(
    rng: torch.Generator, n_trees: int, longest: int, max_depth: int, max_args: int
) -> list[_Level]:
    """Draw trees; what has more nodes than `longest` is cut short, still too long to be kept."""
    tree = np.arange(n_trees)
    parent = np.zeros(n_trees, dtype=np.int64)
    n_nodes = np.zeros(n_trees, dtype=np.int64)
    levels: list[_Level] = []
    for depth in range(1, max_depth + 1):
        kind, many, what = torch.rand(3, len(tree), generator=rng, dtype=torch.float64).numpy()
        n_nodes += np.bincount(tree, minlength=n_trees)
        is_operation = (kind < P_OPERATION) & (depth < max_depth) if depth > 1 else kind >= 0
        is_operation &= n_nodes[tree] <= longest
        n_args = np.where(is_operation, 2 + (many * (max_args - 1)).astype(np.int64), 0)
        choice = (what * np.where(is_operation, len(OPERATORS), 10)).astype(np.int64)
        levels.append(_Level(tree, parent, choice, n_args))
        parent = np.repeat(np.arange(len(tree)), n_args)
        tree = tree[parent]
    return levels


def _sizes(levels: list[_Level]) -> list[Integers]:
    """Tokens of the subtree at each node of each level."""
    sizes: list[Integers] = []
    below = np.zeros(0, dtype=np.int64)
    for level, under in zip(levels[::-1], [None, *levels[:0:-1]], strict=True):
        size = np.ones(len(level.tree), dtype=np.int64)
        if under is not None:
            inside = np.bincount(under.parent, weights=below, minlength=len(size))
            size = np.where(level.n_args > 0, 2 + inside.astype(np.int64), 1)
        sizes.append(size)
        below = size
    return sizes[::-1]


def _symbols(levels: list[_Level], sizes: list[Integers], good: Booleans) -> Integers:
    """The symbols of the good trees, one tree after another."""
    tokens = np.where(good, sizes[0], 0)
    text = np.zeros(tokens.sum(), dtype=np.int64)
    starts = tokens.cumsum() - tokens  # of each tree
    above: _Level | None = None
    for level, size in zip(levels, sizes, strict=True):
        if above is not None:
            before = size.cumsum() - size
            first = above.n_args.cumsum() - above.n_args  # the first child of each node above
            starts = starts[level.parent] + 1 + before - before[first[level.parent]]
        shown, nested = good[level.tree], level.n_args > 0
        text[starts[shown]] = np.where(nested, FIRST_OPERATOR, FIRST_DIGIT)[shown]
        text[starts[shown]] += level.choice[shown]
        closed = shown & nested
        text[starts[closed] + size[closed] - 1] = CLOSING
        above = level
    return text


def _values(levels: list[_Level], max_args: int) -> Integers:
    """The value of every tree, from the leaves up."""
    below = np.zeros(0, dtype=np.int64)
    for level in levels[::-1]:
        values = level.choice.copy()
        nested = np.flatnonzero(level.n_args)
        n_args, operator = level.n_args[nested], level.choice[nested]
        absent = np.arange(max_args) >= n_args[:, None]  # (operations, max_args)
        table = np.full(absent.shape, 10, dtype=np.int64)  # 10 sorts behind every digit
        table[~absent] = below
        table.sort(axis=1)
        row = np.arange(len(nested))
        middle = (table[row, (n_args - 1) // 2] + table[row, n_args // 2]) // 2
        total = np.where(absent, 0, table).sum(axis=1) % 10
        results = [table[:, 0], table[row, n_args - 1], middle, total]
        values[nested] = np.stack(results)[operator, row]
        below = values
    return below
