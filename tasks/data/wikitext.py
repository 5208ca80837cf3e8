"""WikiText: good and featured articles of Wikipedia. Merity et al. 2017,
https://arxiv.org/abs/1609.07843, section 4.

The archives hold wikitext-2/wiki.{train,valid,test}.tokens, or wikitext-103/. Both have the same
articles in valid (3,760 lines, 217,646 words with the line ends) and test (4,358; 245,569); words
that occur less than three times in train are <unk>. Licence: CC BY-SA 3.0.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

from tasks.data.corpus import Corpus
from tasks.data.words import read_words
from tasks.task import Split

FILES: dict[Split, str] = {
    "train": "wiki.train.tokens",
    "val": "wiki.valid.tokens",
    "test": "wiki.test.tokens",
}


@cache
def read(folder: Path, name: str, bpe: int | None) -> Corpus:
    """The words of wikitext-2 or wikitext-103, whichever folder `name` is.

    Raises:
        DataError: a file is missing or broken.
    """
    files = {split: folder / name / file for split, file in FILES.items()}
    return read_words(files, name, bpe)
