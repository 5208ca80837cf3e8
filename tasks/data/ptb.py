"""The Penn Treebank as Mikolov prepared it: lower case, N for numbers, <unk> for rare words.

Either the three files ptb.{train,valid,test}.txt (42,068, 3,370 and 3,761 lines; 929,589, 73,760
and 82,430 words with the line ends), or the archive simple-examples.tgz, which holds the same
files in simple-examples/data. Origin: Mikolov et al. 2010, http://www.fit.vutbr.cz/~imikolov/rnnlm.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

from tasks.data.cache import status
from tasks.data.corpus import Corpus
from tasks.data.errors import DataError
from tasks.data.words import read_words
from tasks.task import Split

DATA_SET, ARCHIVE = "ptb", "ptb_simple_examples"
FILES: dict[Split, str] = {"train": "ptb.train.txt", "val": "ptb.valid.txt", "test": "ptb.test.txt"}


def data_set() -> str:
    """The one of the two data sets that is on this machine; the smaller one if none is."""
    return ARCHIVE if status(DATA_SET) == "no" and status(ARCHIVE) != "no" else DATA_SET


@cache
def read(folder: Path, bpe: int | None) -> Corpus:
    """The words of the files in a folder, or of those that the archive left in it.

    Raises:
        DataError: a file is missing or broken.
    """
    for below in (folder, folder / "simple-examples" / "data"):
        files = {split: below / name for split, name in FILES.items()}
        if all(file.is_file() for file in files.values()):
            return read_words(files, DATA_SET, bpe)
    raise DataError(f"{folder} has no {', '.join(FILES.values())}, nor any in simple-examples/data")
