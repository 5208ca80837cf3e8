"""Dyck: well-nested brackets of k kinds, at most m deep.

Hewitt et al. 2020, https://arxiv.org/abs/2010.07515, sections 2 and 6; john-hewitt/dyckkm-learning
rnns-stacks/generate_mbounded_dyck.py, reporter.py. An empty stack opens or ends, a full one closes,
any other opens or closes, each with probability 1/2, and the kind is uniform. Published training
lengths are up to 8m(m-2)+60 with the end, 84 at m = 3, and tests are up to twice as long.

Where it differs from the publication: strings are drawn from that process given their length,
instead of any length it stops at; and the share of brackets closed right is the mean over all that
close, where theirs looks at every step with something open and averages over distances first.

B batch, T time, k kinds, m depth.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import ClassVar, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tasks.scoring import cross_entropy
from tasks.strings import StringTask
from tasks.task import Count, Kind, Metric, Tokens, check_integer

Integers: TypeAlias = NDArray[np.int64]
MASS = 0.8
"""Of the mass on closing brackets, what the right one must exceed, as published."""


@dataclass(frozen=True, kw_only=True)
class Dyck(StringTask):
    """The next symbol of well-nested brackets: which kind of them closes here.

    ( [ ] ) -> [ ] ) end, of which ] and ) can be known. Symbols 0..k-1 open, k..2k-1 close, 2k is
    the end. Lengths are even: an odd one leaves a token of padding. Chance is closing the same kind
    always.
    """

    kind: ClassVar[Kind] = "per_step"
    causal_only: ClassVar[bool] = True
    least: ClassVar[int] = 2

    length: int = 84  # brackets
    kinds: int = 8
    depth: int = 3

    def __post_init__(self) -> None:
        """Refuse fields that name no task."""
        super().__post_init__()
        check_integer("kinds", self.kinds, at_least=1)
        check_integer("depth", self.depth, at_least=1)

    @property
    def stride(self) -> int:
        """What opens closes."""
        return 2

    @property
    def inputs(self) -> Tokens:
        """Brackets."""
        return Tokens(2 * self.kinds)

    @property
    def n_outputs(self) -> int:
        """Brackets and the end."""
        return 2 * self.kinds + 1

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """Brackets closed right, and bits per symbol, of which the uniform guess is the chance."""
        k = self.kinds
        adjacent = _adjacent_share(self.longest, self.depth)
        return (
            Metric(
                "closed_right",
                "fraction",
                higher_is_better=True,
                chance=1 / k,
                baseline=adjacent + (1 - adjacent) / k,
                baseline_rule="closing the bracket just read, if it opens",
            ),
            Metric("bits_per_symbol", "bits", higher_is_better=False, chance=math.log2(2 * k + 1)),
        )

    def loss(self, outputs: Tensor, targets: Tensor) -> Count:
        """Cross-entropy in nats."""
        return cross_entropy(outputs, targets)

    def score(self, outputs: Tensor, targets: Tensor) -> Mapping[str, Count]:
        """Where a bracket closes, whether its kind has most of the closing mass; and bits."""
        k = self.kinds
        closes = (targets >= k) & (targets < 2 * k)  # (B, T)
        mass = outputs[..., k : 2 * k].float().softmax(-1)  # (B, T, k)
        kind = (targets - k).clamp(0, k - 1).unsqueeze(-1)
        right = closes & (mass.gather(-1, kind).squeeze(-1) > MASS)
        nats, count = cross_entropy(outputs, targets)
        return {
            "closed_right": Count(right.sum().float(), closes.sum().float()),
            "bits_per_symbol": Count(nats / math.log(2), count),
        }

    def draw(self, rng: torch.Generator, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Draw brackets (B, T) and the symbol after each (B, T)."""
        B, T, k = len(lengths), self.length, self.kinds
        share = torch.rand(B, T, generator=rng, dtype=torch.float64).numpy()
        kinds = torch.randint(k, (B, T), generator=rng).numpy()
        opening = opening_probabilities(self.longest, self.depth)  # after the end nothing opens
        left = np.maximum(lengths.numpy()[:, None] - np.arange(T), 0)  # (B, T), still to come
        opens = np.zeros((B, T), dtype=bool)
        depth = np.zeros(B, dtype=np.int64)
        levels = np.zeros((B, T), dtype=np.int64)  # how deep a bracket and its partner lie
        for t in range(T):
            opens[:, t] = share[:, t] < opening[left[:, t], depth]
            levels[:, t] = depth + opens[:, t]
            depth = np.maximum(levels[:, t] - ~opens[:, t], 0)
        brackets = np.where(opens, kinds, _partners(opens, levels, kinds, self.depth) + k)
        symbols = torch.from_numpy(np.pad(brackets, ((0, 0), (0, 1))))  # (B, T+1)
        symbols.scatter_(1, lengths.unsqueeze(1), 2 * k)
        return symbols[:, :-1].contiguous(), symbols[:, 1:].contiguous()


def _partners(opens: NDArray[np.bool_], levels: Integers, kinds: Integers, depth: int) -> Integers:
    """The kind of the last bracket that opened at the same level (B, T)."""
    partner = np.zeros_like(kinds)
    time = np.arange(opens.shape[1])
    for level in range(1, depth + 1):
        here = levels == level
        last = np.maximum.accumulate(np.where(here & opens, time, 0), axis=1)
        partner = np.where(here, np.take_along_axis(kinds, last, axis=1), partner)
    return partner


@cache
def opening_probabilities(length: int, depth: int) -> NDArray[np.float64]:
    """How likely the next bracket opens, by the number still to come and by depth: (T+1, m+1).

    The process goes up or down by chance; given that it ends when none are left, each way weighs
    as much as its continuations.
    """
    up = np.full(depth + 1, 0.5)
    up[depth] = 0.0
    down = np.full(depth + 1, 0.5)
    down[0], down[depth] = 0.0, 1.0
    probabilities = np.zeros((length + 1, depth + 1))
    weight = np.zeros(depth + 1)  # of ending in time, from each depth, up to a factor
    weight[0] = 1.0
    for n_left in range(1, length + 1):
        opened = up * np.append(weight[1:], 0.0)
        closed = down * np.append(0.0, weight[:-1])
        weight = opened + closed
        reached = weight > 0
        probabilities[n_left] = np.divide(opened, weight, out=np.zeros(depth + 1), where=reached)
        weight /= weight.max()
    return probabilities


@cache
def _adjacent_share(length: int, depth: int) -> float:
    """The expected share of closing brackets that close the one just before them."""
    opening = opening_probabilities(length, depth)
    here = np.zeros(depth + 1)  # the probability of each depth
    here[0] = 1.0
    adjacent = 0.0
    for n_left in range(length, 0, -1):
        opened = np.append(0.0, (here * opening[n_left])[:-1])  # by the depth they lead to
        closed = np.append((here * (1 - opening[n_left]))[1:], 0.0)
        if n_left > 1:
            adjacent += float((opened * (1 - opening[n_left - 1])).sum())
        here = opened + closed
    return adjacent / (length / 2)
