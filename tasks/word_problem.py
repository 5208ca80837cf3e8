"""Word problem of a finite group: the running product of its elements.

Merrill et al. 2024, https://arxiv.org/abs/2404.08819, section 5; jopetty/word-problem
src/generate_data.py. S5 and A5 are not solvable, and their word problem is complete for NC1: no
attention and no diagonal linear recurrence of fixed depth solves it at every length, unless
TC0 = NC1. Z60 and A4 x Z5 have as many elements as A5 and are solvable.

Where it differs from the publication: elements are drawn anew instead of from a fixed list with an
80/20 split, and there is no beginning-of-string token, as in every task here. `shortest: 2` trains
on shorter products too, as published.

B batch, T time, G elements of the group.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from difflib import get_close_matches
from functools import cache
from itertools import permutations, product
from typing import ClassVar, TypeAlias

import torch
from torch import Tensor

from tasks.scoring import Classification
from tasks.strings import StringTask
from tasks.task import Kind, Metric, Tokens

Element: TypeAlias = tuple[int, ...]


def _symmetric(n: int) -> list[Element]:
    return list(permutations(range(n)))


def _alternating(n: int) -> list[Element]:
    return [element for element in _symmetric(n) if _n_inversions(element) % 2 == 0]


def _n_inversions(element: Element) -> int:
    return sum(a > b for i, a in enumerate(element) for b in element[i + 1 :])


def _cyclic(n: int) -> list[Element]:
    """The rotations of n places."""
    return [tuple((place + turn) % n for place in range(n)) for turn in range(n)]


def _side_by_side(one: list[Element], other: list[Element]) -> list[Element]:
    """Their direct product: each permutes its own places."""
    return [a + tuple(len(a) + place for place in b) for a, b in product(one, other)]


# As permutations, the identity first.
GROUPS: dict[str, Callable[[], list[Element]]] = {
    "S5": lambda: _symmetric(5),
    "A5": lambda: _alternating(5),
    "Z60": lambda: _cyclic(60),
    "A4_x_Z5": lambda: _side_by_side(_alternating(4), _cyclic(5)),
}


@dataclass(frozen=True, kw_only=True)
class WordProblem(Classification, StringTask):
    """The product of the group elements so far, at every step.

    In Z60: 7 50 10 -> 7 57 7. Symbol 0 is the identity. Chance is one of the elements: 1/120 for
    S5, 1/60 for the others.
    """

    kind: ClassVar[Kind] = "per_step"

    length: int = 20  # tokens
    group: str = "A5"  # S5, A5, Z60 or A4_x_Z5

    def __post_init__(self) -> None:
        """Refuse fields that name no task."""
        super().__post_init__()
        if self.group not in GROUPS:
            near = get_close_matches(str(self.group).upper(), GROUPS, n=1, cutoff=0.0)[0]
            raise ValueError(
                f"no group {self.group!r}; did you mean {near!r}? choices: {', '.join(GROUPS)}"
            )

    @property
    def inputs(self) -> Tokens:
        """The elements."""
        return Tokens(self.n_outputs)

    @property
    def n_outputs(self) -> int:
        """The elements."""
        return len(multiplication_table(self.group))

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """Accuracy; without memory only the first product can be known."""
        baseline = (1 + (self.longest - 1) * self.chance) / self.longest
        (accuracy,) = super().metrics
        return (replace(accuracy, baseline=baseline, baseline_rule="the element just read"),)

    def draw(self, rng: torch.Generator, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Draw elements (B, T) and their running products (B, T)."""
        table = multiplication_table(self.group)
        elements = torch.randint(len(table), (len(lengths), self.length), generator=rng)
        products, span = elements, 1
        while span < self.length:  # products of the last `span` elements, then of twice as many
            joined = table[products[:, :-span], products[:, span:]]
            products = torch.cat([products[:, :span], joined], dim=1)  # (B, T)
            span *= 2
        return elements, products


@cache
def multiplication_table(group: str) -> Tensor:
    """Products a * b, first a and then b, as (G, G) numbers of elements."""
    elements = GROUPS[group]()
    number = {element: i for i, element in enumerate(elements)}
    return torch.tensor(
        [[number[tuple(b[place] for place in a)] for b in elements] for a in elements]
    )
