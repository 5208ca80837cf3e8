"""Character language modelling on one megabyte of plays: tasks/data/tiny_shakespeare.py."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from tasks.data import tiny_shakespeare
from tasks.data.corpus import Corpus
from tasks.data.folders import folder_of
from tasks.language import LanguageModelling


@dataclass(frozen=True, kw_only=True)
class Shakespeare(LanguageModelling):
    """The next of 65 characters of Shakespeare's plays, in bits per character.

    The first 90 % of the text are train, the next 5 val and the last 5 test. (Scores that others
    report are often nats, of val, of a split in two.) Chance is log2 65 = 6.02.
    """

    data_sets: ClassVar[tuple[str, ...]] = ("shakespeare",)

    @property
    def symbol(self) -> str:
        """Characters."""
        return "char"

    @property
    def n_outputs(self) -> int:
        """The characters that occur."""
        return len(tiny_shakespeare.ALPHABET)

    def corpus(self) -> Corpus:
        """The file, memory-mapped."""
        return tiny_shakespeare.read(folder_of("shakespeare"))
