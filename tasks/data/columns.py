"""Words with labels in columns: CoNLL-U, and the older formats of the CoNLL shared tasks.

CoNLL-U: https://universaldependencies.org/format.html. One word a line, an empty line after each
sentence. Entities: Tjong Kim Sang and De Meulder 2003, https://aclanthology.org/W03-0419, the word
in the first column and the tag in the last, `-DOCSTART-` before a document; or Universal NER,
https://github.com/UniversalNER: number, word, tag, and two more.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal, TypeAlias, get_args

from tasks.data.errors import DataError
from tasks.data.hashing import split_of
from tasks.task import SPLITS, Split

Column: TypeAlias = Literal["upos", "xpos", "ner"]
"""Universal part of speech, the language's own part of speech, or entity."""
COLUMNS: tuple[Column, ...] = get_args(Column)

UPOS = (
    *("ADJ", "ADP", "ADV", "AUX", "CCONJ", "DET", "INTJ", "NOUN", "NUM"),
    *("PART", "PRON", "PROPN", "PUNCT", "SCONJ", "SYM", "VERB", "X"),
)
CONLLU_COLUMNS = 10
UNIVERSAL_NER_COLUMNS = 5
PLACES: Mapping[Column, int] = {"upos": 3, "xpos": 4}
DOCUMENT_START = "-DOCSTART-"


@dataclass(frozen=True)
class Sentence:
    """Words and one label for each."""

    words: tuple[str, ...]
    labels: tuple[str, ...]


Document: TypeAlias = tuple[Sentence, ...]


@dataclass(frozen=True, eq=False)  # compared by identity: corpora are keys of caches
class Corpus:
    """The documents of each split."""

    documents: Mapping[Split, tuple[Document, ...]]
    sha256: str  # of the files

    @cached_property
    def labels(self) -> tuple[str, ...]:
        """The labels of all splits, sorted: one that train lacks can only be answered wrongly."""
        found = {label for split in SPLITS for s in self.sentences(split) for label in s.labels}
        return tuple(sorted(found))

    def sentences(self, split: Split) -> Iterator[Sentence]:
        """The sentences of a split in order."""
        for document in self.documents[split]:
            yield from document


def read_splits(files: Mapping[Split, Path], column: Column) -> Corpus:
    """Three files, one of each split.

    Raises:
        DataError: a file cannot be read, or a line is not of the format; it is named.
    """
    digest, documents = hashlib.sha256(), {}
    for split in SPLITS:
        content = _content(files[split])
        digest.update(hashlib.sha256(content).digest())
        documents[split] = tuple(_documents(files[split], content, column))
    return Corpus(documents, digest.hexdigest())


def read_one(path: Path, column: Column) -> Corpus:
    """One file: a hash of its words puts a sentence into val or test, one in sixteen each.

    Sentences of the same words are in the same split. What a split has of a document is a document
    of that split.

    Raises:
        DataError: the file cannot be read, is too short, or a line is not of the format.
    """
    content = _content(path)
    documents: dict[Split, list[Document]] = {split: [] for split in SPLITS}
    for document in _documents(path, content, column):
        parts: dict[Split, list[Sentence]] = {split: [] for split in SPLITS}
        for sentence in document:
            parts[split_of("\n".join(sentence.words))].append(sentence)
        for split, part in parts.items():
            if part:
                documents[split].append(tuple(part))
    for split in SPLITS:
        if not documents[split]:
            raise DataError(f"{path} has too few sentences: none falls into {split}")
    kept = {split: tuple(found) for split, found in documents.items()}
    return Corpus(kept, hashlib.sha256(content).hexdigest())


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}") from None


def _documents(path: Path, content: bytes, column: Column) -> Iterator[Document]:
    try:
        lines = content.decode("utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8: {error}") from None
    document: list[Sentence] = []
    words: list[str] = []
    labels: list[str] = []
    empty = True
    for number, line in enumerate([*lines, ""], 1):
        line = line.rstrip("\r")
        starts = line.startswith(("# newdoc", DOCUMENT_START))
        if (starts or not line.strip()) and words:
            if column == "ner":
                labels = list(_iob2(labels))
            document.append(Sentence(tuple(words), tuple(labels)))
            words, labels = [], []
        if starts and document:
            yield tuple(document)
            document = []
        if starts or not line.strip() or _is_comment(line, column):
            continue
        found = _word(path, number, line, column)
        if found is not None:
            empty = False
            words.append(found[0])
            labels.append(found[1])
    if empty:
        raise DataError(f"{path} has no words")
    if document:
        yield tuple(document)


def _is_comment(line: str, column: Column) -> bool:
    """Whether a line is a comment: where words come first, a word may begin with the sign."""
    return line.startswith("#") and (column != "ner" or line.startswith("# "))


def _word(path: Path, number: int, line: str, column: Column) -> tuple[str, str] | None:
    """The word and label of a line; None for a range of words or a word that is not there."""
    cells = line.split("\t") if "\t" in line else line.split()
    where = f"{path}, line {number}"
    if column != "ner":
        if len(cells) != CONLLU_COLUMNS:
            raise DataError(f"{where} has {len(cells)} columns, not the 10 of CoNLL-U: {line!r}")
        if not cells[0].isdecimal():
            return None
        label = cells[PLACES[column]]
        if column == "upos" and label not in UPOS:
            raise DataError(f"{where} has upos {label!r}; choices: {', '.join(UPOS)}")
        if label == "_":
            raise DataError(f"{where} has no {column}: {line!r}")
        return cells[1], label
    if len(cells) < 2:
        raise DataError(f"{where} has no second column: {line!r}")
    if len(cells) == UNIVERSAL_NER_COLUMNS and cells[0].isdecimal():
        word, label = cells[1], cells[2]
    else:
        word, label = cells[0], cells[-1].strip()
    if label != "O" and (label[:2] not in ("B-", "I-") or len(label) < 3):
        raise DataError(f"{where} has the tag {label!r}, which is none of O, B-<type> and I-<type>")
    return word, label


def _iob2(tags: Iterable[str]) -> Iterator[str]:
    """The same entities with a B- at every beginning: in IOB1 only one after its like has it."""
    before = "O"
    for tag in tags:
        begins = tag.startswith("I-") and before[2:] != tag[2:]
        yield f"B-{tag[2:]}" if begins else tag
        before = tag
