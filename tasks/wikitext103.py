"""Word language modelling on WikiText-103, 103 million words of Wikipedia: tasks/data/wikitext.py.

The text is numbered once, in minutes, and kept in the cache folder.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from tasks.data import wikitext
from tasks.data.corpus import Corpus
from tasks.data.folders import folder_of
from tasks.language import WordModelling


@dataclass(frozen=True, kw_only=True)
class Wikitext103(WordModelling):
    """The next of 267,735 words of good Wikipedia articles, by perplexity per word.

    Chance is the number of symbols, 267,735. With that many a body of width 64 has 34
    million parameters in embedding and head, and a batch of 32 windows of 256 tokens has 8.8 GB of
    outputs: take small batches, `params_of: body`, or `bpe`.
    """

    data_sets: ClassVar[tuple[str, ...]] = ("wikitext103",)

    def corpus(self) -> Corpus:
        """The words, or their pieces."""
        return wikitext.read(folder_of("wikitext103"), "wikitext-103", self.bpe)
