"""Word language modelling on WikiText-2, two million words of Wikipedia: tasks/data/wikitext.py."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from tasks.data import wikitext
from tasks.data.corpus import Corpus
from tasks.data.folders import folder_of
from tasks.language import WordModelling


@dataclass(frozen=True, kw_only=True)
class Wikitext2(WordModelling):
    """The next of 33,278 words of good Wikipedia articles, by perplexity per word.

    Chance is the number of symbols, 33,278. Merity et al. 2018,
    https://arxiv.org/abs/1708.02182: 65.8 for AWD-LSTM, with carried state.
    """

    data_sets: ClassVar[tuple[str, ...]] = ("wikitext2",)

    def corpus(self) -> Corpus:
        """The words, or their pieces."""
        return wikitext.read(folder_of("wikitext2"), "wikitext-2", self.bpe)
