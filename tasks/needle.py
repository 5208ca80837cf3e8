"""Needle in a haystack: find a stated number in a long real text, byte by byte.

RULER, Hsieh et al. 2024, https://arxiv.org/abs/2404.06654 (NVIDIA/RULER
scripts/data/synthetic/niah.py, constants.py): its needle, its 7-digit values, its question last,
more needles as distractors (`n_needles: 4` is its multikey_1), its 0 to 100% of depth. Made for
models trained from nothing: bytes, keys of four letters so that every needle is equally long, and
the sources of Python's standard library as the haystack, see tasks/data/standard_library.py.

B batch, T length, N needles, W bytes of a needle, H bytes of the haystack.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from tasks.data import standard_library
from tasks.scoring import accuracy, cross_entropy
from tasks.task import (
    UNSCORED,
    Batch,
    Count,
    GeneratedTask,
    Kind,
    Metric,
    Split,
    Tokens,
    check_integer,
)

BEFORE_KEY, BEFORE_VALUE, AFTER_VALUE = b"\nThe magic number for ", b" is ", b".\n"
KEY_LETTERS, VALUE_DIGITS = 4, 7
NEEDLE = BEFORE_KEY + KEY_LETTERS * b"k" + BEFORE_VALUE + VALUE_DIGITS * b"0" + AFTER_VALUE
QUESTION = BEFORE_KEY + KEY_LETTERS * b"k" + BEFORE_VALUE
"""The needle once more, up to its value; the answer's last digit is only a label."""
ASKED = len(QUESTION) + VALUE_DIGITS - 1
N_KEYS = 26**KEY_LETTERS


@dataclass(frozen=True, kw_only=True)
class Needle(GeneratedTask):
    """The number that a sentence in a long text gives to a key, asked at the end.

    ... The magic number for kqzv is 4071993. ... The magic number for kqzv is -> 4071993: the
    digits are scored alone. Text, keys and numbers are drawn anew for each example; held-out text
    is never trained on. To score by depth, test at other values of `depth`. Chance is one of ten
    digits.
    """

    kind: ClassVar[Kind] = "per_step"
    causal_only: ClassVar[bool] = True

    length: int = 256  # bytes: the text, its needles, the question and the answer but for its end
    depth: float | None = None  # of the text that precedes the asked needle, 0 to 1; None: uniform
    n_needles: int = 1  # of which one is asked for; the others lie anywhere

    def __post_init__(self) -> None:
        """Refuse fields that name no task."""
        super().__post_init__()
        check_integer("n_needles", self.n_needles, at_least=1)
        least = self.n_needles * len(NEEDLE) + ASKED
        if self.length < least:
            raise ValueError(
                f"length must be at least {len(NEEDLE)} * n_needles + {ASKED} = {least}, "
                f"not {self.length}: the needles and the question must fit"
            )
        if self.depth is None:
            return
        if isinstance(self.depth, bool) or not isinstance(self.depth, int | float):
            raise ValueError(f"depth must be a number from 0 to 1, or none, not {self.depth!r}")
        if not 0 <= self.depth <= 1:
            raise ValueError(f"depth must be from 0 to 1, not {self.depth!r}")

    @property
    def inputs(self) -> Tokens:
        """Bytes."""
        return Tokens(256)

    @property
    def n_outputs(self) -> int:
        """The next byte."""
        return 256

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """Right digits, each given those before it, and wholly right numbers."""
        n = self.n_needles
        return (
            Metric(
                "accuracy",
                "fraction",
                higher_is_better=True,
                chance=0.1,
                baseline=None if n == 1 else (1 + (n - 1) / 10) / n,
                baseline_rule="" if n == 1 else "the number of any of the needles",
            ),
            Metric(
                "exact",
                "fraction",
                higher_is_better=True,
                chance=0.1**VALUE_DIGITS,
                baseline=None if n == 1 else 1 / n,
                baseline_rule="" if n == 1 else "the number of any of the needles",
            ),
        )

    def loss(self, outputs: Tensor, targets: Tensor) -> Count:
        """Cross-entropy in nats of the digits."""
        return cross_entropy(outputs, targets)

    def score(self, outputs: Tensor, targets: Tensor) -> Mapping[str, Count]:
        """Right digits; an answer is exact if all of it is, as then it would be written so."""
        scored = targets != UNSCORED  # (B, T)
        asked = scored.any(1)  # (B,)
        exact = ((outputs.argmax(-1) == targets) | ~scored).all(1) & asked
        return {
            "accuracy": accuracy(outputs, targets),
            "exact": Count(exact.sum().float(), asked.sum().float()),
        }

    def sample_split(self, split: Split, rng: torch.Generator, batch_size: int) -> Batch:
        """Draw texts with their question (B, T), and labels (B, T) scored at the answer."""
        B, N, W = batch_size, self.n_needles, len(NEEDLE)
        H = self.length - N * W - ASKED
        keys, values = _draw_keys(rng, B, N), _draw_values(rng, B, N)
        needles = _written(NEEDLE, keys, values)  # (B, N, W)
        depths = torch.rand(B, N, generator=rng, dtype=torch.float64)
        if self.depth is not None:
            depths[:, 0] = self.depth
        # Bytes of text before each needle: 0..H alike likely.
        offsets = (depths * (H + 1)).long().clamp(max=H)  # (B, N)
        order = depths.argsort(dim=1)  # which among needles with no text between them, too
        starts = offsets.gather(1, order) + W * torch.arange(N)  # (B, N)
        places = (starts.unsqueeze(2) + torch.arange(W)).flatten(1)  # (B, N*W)
        taken = torch.zeros(B, H + N * W, dtype=torch.bool).scatter_(1, places, value=True)
        body = torch.empty(B, H + N * W, dtype=torch.int64)
        body[taken] = needles.gather(1, order.unsqueeze(2).expand_as(needles)).flatten()
        body[~taken] = self._haystacks(split, rng, B, H).flatten()
        question = _written(QUESTION, keys[:, :1], values[:, :0])[:, 0]  # (B, Q)
        answer = values[:, 0]  # (B, VALUE_DIGITS)
        inputs = torch.cat([body, question, answer[:, :-1]], dim=1)  # (B, T)
        labels = torch.full_like(inputs, UNSCORED)
        labels[:, -VALUE_DIGITS:] = answer
        return Batch(inputs=inputs, targets=labels)

    def fingerprint(self) -> str:
        """The generator's name and version, and the sha256 of the text."""
        return f"{super().fingerprint()}-{standard_library.sha256('needle')}"

    def _haystacks(self, split: Split, rng: torch.Generator, batch_size: int, n: int) -> Tensor:
        """Pieces (B, n) of the text of a split."""
        text = standard_library.read("needle")[split]
        if n > len(text):
            raise ValueError(
                f"length {self.length} needs {n} bytes of text, and {split} has {len(text)}"
            )
        starts = torch.randint(len(text) - n + 1, (batch_size, 1), generator=rng)
        return text[starts + torch.arange(n)].long()


def _draw_keys(rng: torch.Generator, batch_size: int, n: int) -> Tensor:
    """Keys without a repetition in a row: letters (B, n, KEY_LETTERS), the first one asked for."""
    drawn = torch.randint(N_KEYS - n + 1, (batch_size, n), generator=rng)
    numbers = drawn.sort(dim=1).values + torch.arange(n)  # ascending, no two alike
    ranks = torch.rand(batch_size, n, generator=rng, dtype=torch.float64).argsort(dim=1)
    powers = 26 ** torch.arange(KEY_LETTERS)
    return ord("a") + numbers.gather(1, ranks).unsqueeze(2) // powers % 26


def _draw_values(rng: torch.Generator, batch_size: int, n: int) -> Tensor:
    """Digits (B, n, VALUE_DIGITS)."""
    return ord("0") + torch.randint(10, (batch_size, n, VALUE_DIGITS), generator=rng)


def _written(sentence: bytes, keys: Tensor, values: Tensor) -> Tensor:
    """Sentences (B, N, bytes) with their keys, and their values if there are any."""
    bytes_ = torch.tensor(list(sentence)).expand(*keys.shape[:2], -1).clone()
    key = len(BEFORE_KEY)
    bytes_[:, :, key : key + KEY_LETTERS] = keys
    if values.shape[1]:
        value = key + KEY_LETTERS + len(BEFORE_VALUE)
        bytes_[:, :, value : value + VALUE_DIGITS] = values
    return bytes_
