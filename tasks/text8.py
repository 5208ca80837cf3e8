"""Character language modelling on text8, 100 MB of Wikipedia's words: tasks/data/mahoney.py."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from tasks.data import mahoney
from tasks.data.corpus import Corpus
from tasks.data.folders import folder_of
from tasks.language import LanguageModelling


@dataclass(frozen=True, kw_only=True)
class Text8(LanguageModelling):
    """The next of 27 characters of Wikipedia, in bits per character.

    The first 90 million characters are train, the next 5 val and the last 5 test, all of them
    scored unless told otherwise. Chance is log2 27 = 4.75.
    """

    data_sets: ClassVar[tuple[str, ...]] = ("text8",)

    @property
    def symbol(self) -> str:
        """Characters."""
        return "char"

    @property
    def n_outputs(self) -> int:
        """The space and the letters a to z."""
        return len(mahoney.TEXT8_ALPHABET)

    def corpus(self) -> Corpus:
        """The file, memory-mapped."""
        return mahoney.read_text8(folder_of("text8"))
