"""Word language modelling on the Penn Treebank, one million words of news: tasks/data/ptb.py."""

from __future__ import annotations

from dataclasses import dataclass

from tasks.data import ptb
from tasks.data.corpus import Corpus
from tasks.data.folders import folder_of
from tasks.language import WordModelling


@dataclass(frozen=True, kw_only=True)
class Ptb(WordModelling):
    """The next of 10,000 words of news (Penn Treebank), by perplexity per word.

    Chance is the number of symbols, 10,000. Published perplexities, as those of Zaremba et al.
    2014, https://arxiv.org/abs/1409.2329, are with carried state.
    """

    @property
    def data_sets(self) -> tuple[str, ...]:
        """The three files or, if only that is here, the archive that holds them."""
        return (ptb.data_set(),)

    def corpus(self) -> Corpus:
        """The words, or their pieces."""
        return ptb.read(folder_of(ptb.data_set()), self.bpe)
