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
from tasks.python_source import PythonSource
from tasks.scoring import Classification
from tasks.task import UNSCORED, Batch, Split, check_indices


@dataclass(frozen=True, kw_only=True)
class PythonTokens(PythonSource, Classification):
    """The class of every byte of Python source: 9 classes, exact, by accuracy.

    if x: -> keyword keyword space name operator. A byte of a character of several bytes has the
    character's class. Training windows start anywhere, so one may begin within a string; those of
    val and test follow one another and score the same bytes at every length, each window from an
    empty state; if n is no multiple of the length, the last window reaches back and scores only
    what is left. A body that cannot look ahead cannot know a keyword from its first letter. Chance
    is one of the classes; strings are 28 % of all bytes.
    """

    name: ClassVar[str] = "python_tokens"

    @property
    def n_outputs(self) -> int:
        """The classes."""
        return len(CLASSES)

    def examples(self, split: Split, seed: int, indices: Tensor) -> Batch:
        """The windows `indices` (B,) of a split."""
        check_indices(indices, self.size(split))
        found = self._text(split)
        if split == "train":
            starts = self.drawn_starts(seed, indices, len(found.text) - self.length + 1)
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
        return f"{standard_library.sha256(self.name)} {token_classes.version_of_tokenize()}"

    def _text(self, split: Split) -> ClassedText:
        found = token_classes.read(self.name)[split]
        field, needed = self.asked_bytes(split)
        if len(found.text) < needed:
            raise ValueError(
                f"{field} must be at most the {len(found.text)} bytes of {split}, not {needed}"
            )
        return found
