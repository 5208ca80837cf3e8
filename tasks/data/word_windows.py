"""Sentences as examples of at most `length` tokens, in which no word is lost.

T length, N examples.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, TypeAlias, get_args

from tasks.data.columns import Corpus, Document, Sentence
from tasks.data.ragged import Ragged
from tasks.task import UNSCORED, Split

Unit: TypeAlias = Literal["words", "bytes"]
UNITS: tuple[Unit, ...] = get_args(Unit)
Context: TypeAlias = Literal["sentence", "document"]
CONTEXTS: tuple[Context, ...] = get_args(Context)

UNKNOWN = 0
"""The number of words that train has too seldom; those of the vocabulary follow."""

# How well an example may end before a word.
_IN_ENTITY, _IN_SENTENCE, _BETWEEN = 0, 1, 2


@dataclass(frozen=True, eq=False)
class Windows:
    """Tokens of each example, and a label of each token, UNSCORED where it has none."""

    tokens: Ragged
    labels: Ragged


@lru_cache(maxsize=16)
def vocabulary(corpus: Corpus, min_count: int) -> dict[str, int]:
    """Numbers from 1 on of the words that train has at least `min_count` times, frequent first."""
    counts = Counter(word for sentence in corpus.sentences("train") for word in sentence.words)
    kept = sorted((-n, word) for word, n in counts.items() if n >= min_count)
    return {word: number for number, (_, word) in enumerate(kept, UNKNOWN + 1)}


@lru_cache(maxsize=4)
def commonest_label_accuracy(corpus: Corpus) -> float:
    """The share of test that each word's commonest label in train gets right.

    A word that train lacks gets the commonest of all; between equally common ones the first of the
    alphabet counts.
    """
    counts: dict[str, Counter[str]] = {}
    every: Counter[str] = Counter()
    for sentence in corpus.sentences("train"):
        every.update(sentence.labels)
        for word, label in zip(sentence.words, sentence.labels, strict=True):
            counts.setdefault(word, Counter())[label] += 1
    best = {word: _commonest(found) for word, found in counts.items()}
    fallback = _commonest(every)
    right = total = 0
    for sentence in corpus.sentences("test"):
        total += len(sentence.words)
        for word, label in zip(sentence.words, sentence.labels, strict=True):
            right += best.get(word, fallback) == label
    return right / total


def _commonest(counts: Counter[str]) -> str:
    return min(counts, key=lambda label: (-counts[label], label))


@lru_cache(maxsize=16)
def windows(
    corpus: Corpus, split: Split, length: int, unit: Unit, context: Context, min_count: int
) -> Windows:
    """The examples of a split, in the order of the files."""
    numbers = vocabulary(corpus, min_count)
    label_ids = {label: number for number, label in enumerate(corpus.labels)}
    tokens: list[Sequence[int] | bytes] = []
    labels: list[Sequence[int]] = []
    for words, word_labels, breaks in _groups(corpus.documents[split], context):
        encoded = [word.encode() for word in words] if unit == "bytes" else []
        sizes = [len(word) + 1 for word in encoded] if unit == "bytes" else [1] * len(words)
        # The last word of an example has no space after it.
        for begin, end in cut(sizes, breaks, length + (unit == "bytes")):
            ids = [label_ids[label] for label in word_labels[begin:end]]
            if unit == "words":
                tokens.append([numbers.get(word, UNKNOWN) for word in words[begin:end]])
                labels.append(ids)
                continue
            spaces = [b"\n" if grade == _BETWEEN else b" " for grade in breaks[begin + 1 : end]]
            text, places = _spelled(encoded[begin:end], [*spaces, b""], ids)
            # Of a word longer than an example the end is read, where its label is.
            tokens.append(text[-length:])
            labels.append(places[-length:])
    return Windows(Ragged.of(tokens), Ragged.of(labels))


def _spelled(
    words: Sequence[bytes], spaces: Sequence[bytes], ids: Sequence[int]
) -> tuple[bytes, list[int]]:
    """The bytes of words, and labels at the last byte of each."""
    text, places = b"", []
    for word, space, label in zip(words, spaces, ids, strict=True):
        text += word + space
        places += [UNSCORED] * (len(word) - 1) + [label] + [UNSCORED] * len(space)
    return text, places


def _groups(
    documents: Iterable[Document], context: Context
) -> Iterable[tuple[list[str], list[str], list[int]]]:
    """Words, labels and the grade of the break before each word: of sentences or of documents."""
    for document in documents:
        if context == "document":
            yield _joined(document)
        else:
            for sentence in document:
                yield _joined((sentence,))


def _joined(sentences: Iterable[Sentence]) -> tuple[list[str], list[str], list[int]]:
    words: list[str] = []
    labels: list[str] = []
    breaks: list[int] = []
    for sentence in sentences:
        words += sentence.words
        labels += sentence.labels
        breaks.append(_BETWEEN)
        breaks += [
            _IN_ENTITY if label.startswith("I-") else _IN_SENTENCE for label in sentence.labels[1:]
        ]
    return words, labels, breaks


def cut(sizes: Sequence[int], breaks: Sequence[int], room: int) -> Iterable[tuple[int, int]]:
    """Ranges of words (begin, end) that follow one another, each as long as `room` allows.

    A range ends where a sentence does, if one ends in it; else between entities; within an entity
    only if the whole range is one. A word larger than `room` is a range of its own.
    """
    begin = 0
    while begin < len(sizes):
        end, left = begin + 1, room - sizes[begin]
        while end < len(sizes) and sizes[end] <= left:
            left -= sizes[end]
            end += 1
        if end < len(sizes):
            best = max(breaks[begin + 1 : end + 1])
            while breaks[end] != best:
                end -= 1
        yield begin, end
        begin = end
