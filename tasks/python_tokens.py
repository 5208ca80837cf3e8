"""Token classes: what each byte of Python source belongs to, a keyword, a name, a string.

The standard library of the running Python, whole files held out, see
tasks/data/standard_library.py; the classes are those of its own `tokenize`, see
tasks/data/token_classes.py. No package, no download.

T length, n the evaluated bytes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from tasks.data import standard_library, token_classes
from tasks.data.token_classes import CLASSES, NONE, ClassedText
from tasks.scoring import Classification
from tasks.task import UNSCORED, Batch, Kind, Split, Tokens, check_indices, check_integer, generator


@dataclass(frozen=True, kw_only=True)
class PythonTokens(Classification):
    """The class of every byte of Python source: 9 classes, exact, by accuracy.

    if x: -> keyword keyword space name operator. A byte of a character of several bytes has the
    character's class. Training windows start anywhere, so one may begin within a string; those of
    val and test follow one another and score the same bytes at every length, each window from an
    empty state; if n is no multiple of the length, the last window reaches back and scores only
    what is left. A body that cannot look ahead cannot know a keyword from its first letter. Chance
    is one of the classes; strings are 28 % of all bytes.
    """

    kind: ClassVar[Kind] = "per_step"
    data_sets: ClassVar[tuple[str, ...]] = ("standard_library",)

    length: int = 256  # bytes
    n_eval_bytes: int = 65536  # scored bytes of val, and of test; at least the length

    def __post_init__(self) -> None:
        """Refuse fields that name no task."""
        super().__post_init__()
        check_integer("n_eval_bytes", self.n_eval_bytes, at_least=1)
        if self.length > self.n_eval_bytes:
            raise ValueError(
                f"length must be at most n_eval_bytes = {self.n_eval_bytes}, not {self.length}"
            )

    @property
    def inputs(self) -> Tokens:
        """Bytes."""
        return Tokens(256)

    @property
    def n_outputs(self) -> int:
        """The classes."""
        return len(CLASSES)

    def size(self, split: Split) -> int | None:
        """Windows of a split; train has one for every index."""
        if split == "train":
            return None
        return -(-self.n_eval_bytes // self.length)

    def examples(self, split: Split, seed: int, indices: Tensor) -> Batch:
        """The windows `indices` (B,) of a split."""
        check_indices(indices, self.size(split))
        found = self._text(split)
        if split == "train":
            starts = self._offsets(seed, indices, len(found.text) - self.length + 1)
        else:
            starts = (indices * self.length).clamp(max=self.n_eval_bytes - self.length)
        steps = torch.arange(self.length)
        labels = found.classes(starts, self.length).long()  # (B, T)
        labels[labels == NONE] = UNSCORED
        if split != "train":
            # The windows before the last have scored what it repeats.
            labels[steps < (indices * self.length - starts)[:, None]] = UNSCORED
        return Batch(inputs=found.text[starts[:, None] + steps].long(), targets=labels)

    def fingerprint(self) -> str:
        """The sha256 of the text, all splits, and the Python version, whose `tokenize` decides."""
        return f"{standard_library.sha256('python_tokens')} {token_classes.version_of_tokenize()}"

    def _text(self, split: Split) -> ClassedText:
        found = token_classes.read("python_tokens")[split]
        needed = self.length if split == "train" else self.n_eval_bytes
        if len(found.text) < needed:
            name = "length" if split == "train" else "n_eval_bytes"
            raise ValueError(
                f"{name} must be at most the {len(found.text)} bytes of {split}, not {needed}"
            )
        return found

    def _offsets(self, seed: int, indices: Tensor, n_offsets: int) -> Tensor:
        """Where training windows start (B,): each a function of (seed, index) alone."""
        drawn = [
            torch.randint(n_offsets, (), generator=generator("python_tokens", seed, index))
            for index in indices.tolist()
        ]
        return torch.stack(drawn)
