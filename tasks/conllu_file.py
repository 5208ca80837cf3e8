"""Labels of the words of one's own files. Nothing else is needed.

bench run -a gru -t conllu_file --set task.path=my.conllu --set task.column=xpos
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from tasks.data.columns import COLUMNS, Column, Corpus, read_one, read_splits
from tasks.data.own_files import Version, version_of
from tasks.task import check_choice
from tasks.word_labelling import WordLabelling


@dataclass(frozen=True, kw_only=True)
class ConlluFile(WordLabelling):
    """Parts of speech or entities of any CoNLL file: accuracy of words, or F1 of entities.

    `column` upos or xpos reads CoNLL-U; ner reads files with the word first and the tag last, or
    Universal NER. Give three files, or one: then a hash of its words puts one sentence in sixteen
    into val, and one into test. Paths count from the current folder, or from ~. The fingerprint is
    a hash of the content.
    """

    path: str  # of train, or of the one file
    val_path: str = ""
    test_path: str = ""
    column: Column = "upos"

    def __post_init__(self) -> None:
        """Refuse fields that name no task."""
        super().__post_init__()
        if not isinstance(self.path, str) or not self.path:
            raise ValueError(f"path must name a file, not {self.path!r}")
        if bool(self.val_path) != bool(self.test_path):
            raise ValueError(
                "val_path and test_path must both name a file, or neither, not "
                f"{self.val_path!r} and {self.test_path!r}"
            )
        check_choice("column", self.column, COLUMNS)

    @property
    def entities(self) -> bool:  # type: ignore[override]  # of others it is a constant
        """Whether tags of entities are read."""
        return self.column == "ner"

    def read(self) -> Corpus:
        """The files, read again if they have changed."""
        paths = (self.path, self.val_path, self.test_path) if self.val_path else (self.path,)
        return _read(tuple(version_of(path) for path in paths), self.column)


@lru_cache(maxsize=4)
def _read(versions: tuple[Version, ...], column: Column) -> Corpus:
    if len(versions) == 1:
        return read_one(Path(versions[0].path), column)
    train, val, test = (Path(version.path) for version in versions)
    return read_splits({"train": train, "val": val, "test": test}, column)
