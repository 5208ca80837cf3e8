"""Named entities: which words name a person, a place, an organisation or another thing.

Tjong Kim Sang and De Meulder 2003, https://aclanthology.org/W03-0419 (CoNLL-2003, Reuters news) and
Derczynski et al. 2017, https://aclanthology.org/W17-4418 (WNUT-17, rare entities in web text), with
their published splits.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import ClassVar, Literal, TypeAlias, get_args

from tasks.data.cache import set_folder
from tasks.data.columns import Corpus, read_splits
from tasks.task import Split, check_choice
from tasks.word_labelling import WordLabelling

NerSet: TypeAlias = Literal["conll2003", "wnut17"]
NER_SETS: tuple[NerSet, ...] = get_args(NerSet)

FILES: Mapping[NerSet, Mapping[Split, str]] = {
    "conll2003": {"train": "train.txt", "val": "valid.txt", "test": "test.txt"},
    "wnut17": {
        "train": "wnut17train.conll",
        "val": "emerging.dev.conll",
        "test": "emerging.test.annotated",
    },
}


@dataclass(frozen=True, kw_only=True)
class Ner(WordLabelling):
    """Named entities of news or of rare names in web text, by the F1 of whole entities.

    U.N. official Ekeus -> B-ORG O B-PER. An entity counts if type, first and last word are right,
    as seqeval counts and, before it, the shared task. Tags are read as IOB2, whatever the file has.
    Where a single entity has more words than an example, its parts count as entities; at any length
    of at least 64 words that does not happen. Chance, all O, is 0.
    """

    entities: ClassVar[bool] = True

    data_set: NerSet = "conll2003"

    def __post_init__(self) -> None:
        """Refuse fields that name no task."""
        super().__post_init__()
        check_choice("data_set", self.data_set, NER_SETS)

    @property
    def data_sets(self) -> tuple[str, ...]:
        """The one that is read."""
        return (self.data_set,)

    def read(self) -> Corpus:
        """The three files."""
        return _read(set_folder(self.data_set), self.data_set)


@lru_cache(maxsize=4)
def _read(folder: Path, data_set: NerSet) -> Corpus:
    files = {split: folder / name for split, name in FILES[data_set].items()}
    return read_splits(files, "ner")
