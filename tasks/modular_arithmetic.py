"""Modular arithmetic: the value of an expression, without or with brackets.

Delétang et al. 2023, https://arxiv.org/abs/2207.02098, table 1 (regular without brackets,
deterministic context-free with them); google-deepmind/neural_networks_chomsky_hierarchy
tasks/regular/modular_arithmetic.py and tasks/dcf/modular_arithmetic_brackets.py.

B batch, T time, M modulus, E expressions side by side.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import ClassVar, NamedTuple, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tasks.scoring import Classification
from tasks.strings import StringTask
from tasks.task import Kind, Tokens, check_integer

Reals: TypeAlias = NDArray[np.float64]
PLUS, MINUS, TIMES, OPEN, CLOSE = range(5)
"""Symbols after the M digits."""
SETTLED = 1000
"""Tokens from which on the chance is taken to grow no more: with brackets it is .320 at 1,000 and
1/3 in the limit, without them it settles much sooner."""


@dataclass(frozen=True, kw_only=True)
class ModularArithmetic(Classification, StringTask):
    """The value modulo 5 of an expression of digits, +, - and *.

    1 + 2 * 3 -> 2. Without brackets products bind tighter than sums, and lengths are odd: an even
    one leaves a token of padding. With brackets, ( - 3 ) or ( ( 1 + 2 ) * - 3 ), every operation
    has its own. Chance is the likeliest value: 0.2, and more with brackets, where products make
    zeros.
    """

    kind: ClassVar[Kind] = "per_sequence"

    length: int = 39  # tokens
    brackets: bool = False
    multiply: bool = True  # whether there are products
    modulus: int = 5

    def __post_init__(self) -> None:
        """Refuse fields that name no task."""
        super().__post_init__()
        check_integer("modulus", self.modulus, at_least=2)
        for name in ("brackets", "multiply"):
            if not isinstance(getattr(self, name), bool):
                raise ValueError(f"{name} must be true or false, not {getattr(self, name)!r}")

    @property
    def stride(self) -> int:
        """Without brackets digits and operators take turns."""
        return 1 if self.brackets else 2

    @property
    def inputs(self) -> Tokens:
        """Digits, operators and brackets."""
        return Tokens(self.modulus + 5)

    @property
    def n_outputs(self) -> int:
        """The values."""
        return self.modulus

    @property
    def chance(self) -> float:
        """The share of the likeliest value."""
        law = _law_with_brackets if self.brackets else _law_without_brackets
        likeliest = law(min(self.longest, SETTLED), self.modulus, self.multiply).max()
        return round(float(likeliest), 9)  # .2, not .2000...07

    def draw(self, rng: torch.Generator, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Draw expressions (B, T) and their values (B,)."""
        if self.brackets:
            return self._draw_with_brackets(rng, lengths)
        n_digits = (self.length + 1) // 2
        digits = torch.randint(self.modulus, (len(lengths), n_digits), generator=rng)
        n_operators = TIMES + self.multiply
        operators = torch.randint(n_operators, (len(lengths), n_digits), generator=rng)
        pairs = torch.stack([digits, operators + self.modulus], dim=2)  # (B, n_digits, 2)
        operators = operators.roll(1, 1)  # now the one in front of a digit
        operators[:, 0] = PLUS
        # Beyond its end an expression goes on with + 0, which changes no value.
        beyond = torch.arange(n_digits) * 2 >= lengths.unsqueeze(1)
        digits, operators = digits.masked_fill(beyond, 0), operators.masked_fill(beyond, PLUS)
        total = torch.zeros_like(lengths)
        term = torch.zeros_like(lengths)
        for digit, operator in zip(digits.unbind(1), operators.unbind(1), strict=True):
            multiplies = operator == TIMES
            total = torch.where(multiplies, total, (total + term) % self.modulus)
            signed = torch.where(operator == MINUS, -digit, digit)
            term = torch.where(multiplies, term * digit, signed) % self.modulus
        return pairs.flatten(1)[:, : self.length], (total + term) % self.modulus

    def _draw_with_brackets(self, rng: torch.Generator, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Split every expression of a level at once, then evaluate from the last level up.

        Of up to 4 tokens an expression is d, -d, (d) or (-d); a longer one is a bracket around two
        of any lengths that fit, all alike likely.
        """
        M = self.modulus
        inputs = torch.zeros(len(lengths), self.length, dtype=torch.int64)
        flat = inputs.view(-1)
        starts = torch.arange(len(lengths)) * self.length  # (E,), where expressions start in flat
        sizes = lengths  # (E,), their tokens
        levels: list[_Level] = []
        while len(sizes):
            digits = torch.randint(M, sizes.shape, generator=rng)
            operators = torch.randint(TIMES + self.multiply, sizes.shape, generator=rng)
            share = torch.rand(sizes.shape, generator=rng, dtype=torch.float64)
            splits = sizes > 4
            negative = sizes % 2 == 0
            bracketed = sizes > 2
            flat[starts[bracketed]] = M + OPEN
            flat[(starts + sizes - 1)[bracketed]] = M + CLOSE
            leaf = ~splits
            at = starts + bracketed.long()  # where a leaf has its sign or its digit
            flat[at[leaf & negative]] = M + MINUS
            flat[(at + negative.long())[leaf]] = digits[leaf]
            lefts = 1 + (share * (sizes - 4)).long()  # tokens of the left part, 1 to size - 4
            middles = starts + 1 + lefts
            flat[middles[splits]] = M + operators[splits]
            levels.append(_Level(torch.where(negative, -digits, digits) % M, splits, operators))
            starts = torch.cat([starts[splits] + 1, middles[splits] + 1])
            sizes = torch.cat([lefts[splits], (sizes - 3 - lefts)[splits]])
        values = torch.zeros(0, dtype=torch.int64)
        for level in reversed(levels):
            left, right = values.chunk(2) if len(values) else (values, values)
            operators = level.operators[level.splits]
            found = torch.where(operators == PLUS, left + right, left - right)
            found = torch.where(operators == TIMES, left * right, found) % M
            values = level.values.masked_scatter(level.splits, found)
        return inputs, values


class _Level(NamedTuple):
    """Expressions equally deep in brackets: their values if leaves, which ones split, and how."""

    values: Tensor
    splits: Tensor
    operators: Tensor


@cache
def _law_without_brackets(length: int, modulus: int, multiply: bool) -> Reals:
    """The probability of each value (M,), by the sum of finished terms and the term at hand."""
    uniform = np.full(modulus, 1 / modulus)
    adds = 2 / 3 if multiply else 1.0
    times = np.zeros((modulus, modulus))  # from a term to its product with a digit
    for term in range(modulus):
        for digit in range(modulus):
            times[term, term * digit % modulus] += 1 / modulus
    joint = np.zeros((modulus, modulus))  # of the sum and the term
    joint[0] = uniform
    for _ in range(length // 2):
        joint = adds * np.outer(_sum_law(joint, modulus), uniform) + (1 - adds) * joint @ times
    return _sum_law(joint, modulus)


@cache
def _law_with_brackets(length: int, modulus: int, multiply: bool) -> Reals:
    """The probability of each value (M,), from the laws of all shorter expressions."""
    a = np.arange(modulus)
    results = [np.add.outer(a, a), np.subtract.outer(a, a), np.multiply.outer(a, a)]
    results = results[: TIMES + multiply]
    laws = np.full((length + 1, modulus), 1 / modulus)  # row 0 is never used
    for size in range(5, length + 1):
        left = laws[1 : size - 3]
        joint = left.T @ left[::-1] / len(left)  # of the two parts
        found = [np.bincount((r % modulus).ravel(), joint.ravel(), modulus) for r in results]
        laws[size] = np.mean(found, axis=0)
    law: Reals = laws[length]
    return law


def _sum_law(joint: Reals, modulus: int) -> Reals:
    a = np.arange(modulus)
    sums = np.add.outer(a, a) % modulus
    return np.array([joint[sums == value].sum() for value in a])
