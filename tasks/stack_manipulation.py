"""Stack manipulation: read a stack and what is done to it, write what is left of it.

Delétang et al. 2023, https://arxiv.org/abs/2207.02098, table 1 (deterministic context-free);
google-deepmind/neural_networks_chomsky_hierarchy tasks/dcf/stack_manipulation.py. There the answer
is read from T + 1 empty tokens after the input and padded with zeros, which the loss counts and the
accuracy does not; here it is written symbol by symbol, and neither counts what follows the end.

B batch, T time.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from torch import Tensor

from tasks.scoring import Writing
from tasks.strings import StringTask
from tasks.task import UNSCORED, Tokens

POP, PUSH_0 = 2, 3  # and 4: push 1
END = 2
LONG = 1000
"""Tokens from which on pops of nothing no longer matter to the mean height."""


@dataclass(frozen=True, kw_only=True)
class StackManipulation(Writing, StringTask):
    """Apply pops and pushes to a stack of bits, then write it, the top first.

    0 1 1 0 push-1 pop pop -> 1 1 0 end. The stack is read bottom first, its size is uniform in
    1..T-1, and the actions, all three alike likely, fill the rest; a pop of nothing does nothing.
    Symbols 0 and 1 are bits, 2 is pop, 3 and 4 push 0 and 1. Chance is always writing one bit: half
    of what is on the stack, but not its end.
    """

    length: int = 40  # tokens of the stack and its actions

    @property
    def inputs(self) -> Tokens:
        """Two bits and three actions."""
        return Tokens(5)

    @property
    def n_outputs(self) -> int:
        """Two bits and the end."""
        return 3

    @property
    def end_symbol(self) -> int:
        """The bottom is passed."""
        return END

    @property
    def tokens(self) -> int:
        """The stack, its actions and the answer."""
        return 2 * self.length + 1

    @property
    def chance(self) -> float:
        """Half of the bits among the symbols of the answers."""
        height = _expected_height(self.length)
        return 0.5 * height / (height + 1)

    def draw(self, rng: torch.Generator, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Draw stacks and actions (B, T), and what is left with its end (B, T+1)."""
        B, T = len(lengths), self.length
        share = torch.rand(B, generator=rng, dtype=torch.float64)
        sizes = 1 + (share * (lengths - 1)).long()  # (B,), uniform in 1..lengths-1; 1 if that is 1
        bits = torch.randint(2, (B, T), generator=rng)
        actions = torch.randint(POP, 5, (B, T), generator=rng)
        time = torch.arange(T)
        symbols = torch.where(time < sizes.unsqueeze(1), bits, actions)  # (B, T)
        real = time < lengths.unsqueeze(1)
        steps = torch.where(symbols == POP, -1, 1) * real
        # A pop of nothing lifts all that follows by one: heights are the walk above its minimum.
        walk = steps.cumsum(1)
        heights = walk - walk.cummin(1).values.clamp(max=0)  # (B, T)
        # What was pushed to a height is still there if no later height is below it.
        lowest_after = heights.flip(1).cummin(1).values.flip(1)
        stays = real & (symbols != POP) & (lowest_after == heights)
        final = heights[:, -1:]  # (B, 1)
        answers = torch.full((B, T + 2), UNSCORED)
        places = torch.where(stays, final - heights, T + 1)  # from the top; T + 1 is cut off
        answers.scatter_(1, places, torch.where(symbols < POP, symbols, symbols - PUSH_0))
        answers.scatter_(1, final, END)
        return symbols, answers[:, : T + 1]


@cache
def _expected_height(length: int) -> float:
    """The mean height of the final stack, over its first size and the actions."""
    if length > LONG:  # half of the tokens are pushed, and the others lift by a third each
        return 2 * length / 3
    heights = np.arange(2 * length + 1, dtype=np.float64)
    expected, found = heights.copy(), []  # the mean height after some actions, from each height
    for n_actions in range(1, length):
        lower = np.concatenate([expected[:1], expected[:-1]])
        upper = np.concatenate([expected[1:], expected[-1:] + 2 / 3])
        expected = (lower + 2 * upper) / 3
        found.append(expected[length - n_actions])
    return float(np.mean(found)) if found else 1.0
