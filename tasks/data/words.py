"""Texts as words or as pieces of words: one sentence or paragraph a line, words between spaces.

Every line ends in <eos>, as in Mikolov et al. 2010 and Zaremba et al. 2014
(https://arxiv.org/abs/1409.2329): PTB has 10,000 symbols, WikiText-2 33,278 and WikiText-103
267,735, <unk> and <eos> among them. The first word of a split follows an <eos>.

Pieces are learned by byte pair encoding (Sennrich et al. 2016, https://arxiv.org/abs/1508.07909)
on the bytes of the words of train. No piece reaches beyond a word, and <unk> and <eos> stay whole,
so that nats per word compare with those of the words themselves.
"""

from __future__ import annotations

import os
from array import array
from collections.abc import Iterable, Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.data.corpus import Corpus, Stream, cut, sha256_of, smallest_type
from tasks.data.encoded import Encoding, encoded
from tasks.data.errors import DataError
from tasks.task import SPLITS, Split

UNKNOWN, END = "<unk>", "<eos>"
LINE_END_BYTES = 2
"""Of " \\n": files of words begin with a space, and have one after every word."""
MIN_PIECES = 258
"""The symbols of a vocabulary without merges: <unk>, <eos> and the bytes."""

_CHUNK_WORDS = 2**20
_START = "Ġ"  # how a space looks in byte-level pieces; every other byte has another look


def read_words(files: Mapping[Split, Path], name: str, bpe: int | None) -> Corpus:
    """Three files of words.

    Args:
        files: one of each split.
        name: of the data set, for people who look into the cache folder.
        bpe: symbols of a vocabulary of pieces, learned on train; None: the words of train.

    Raises:
        DataError: a file cannot be read, is no UTF-8, is empty, or gives fewer pieces than asked.
    """
    content = sha256_of(*(files[split] for split in SPLITS))
    settings: dict[str, object] = {"bpe": bpe}
    if bpe is not None:
        settings["tokenizers"] = version("tokenizers")

    def build() -> Encoding:
        table = _Table()
        ids = {split: table.read(files[split]) for split in SPLITS}
        if bpe is None:
            return _as_words(table, ids, min_count=1)
        return _as_pieces(table, ids, bpe, files["train"])

    return encoded(name, content, settings, build)


def read_text_words(path: Path, min_count: int, val_share: float, test_share: float) -> Corpus:
    """One file of words, split by position; rarer words than `min_count` are <unk>.

    Raises:
        DataError: the file cannot be read, is no UTF-8, or is too short.
    """

    def build() -> Encoding:
        table = _Table()
        ids = cut(table.read(path), val_share, test_share, path)
        encoding = _as_words(table, ids, min_count)
        # <unk> stands for words of any length: bits per byte would not be those of the text.
        return Encoding(streams=encoding.streams, symbols=encoding.symbols, words=encoding.words)

    settings: dict[str, object] = {
        "min_count": min_count,
        "val_share": val_share,
        "test_share": test_share,
    }
    return encoded("text_file-words", sha256_of(path), settings, build)


class _Table(dict[str, int]):
    """Ids of words: a word that is looked up for the first time gets the next one."""

    def __init__(self) -> None:
        super().__init__({UNKNOWN: 0, END: 1})

    def __missing__(self, word: str) -> int:
        self[word] = number = len(self)
        return number

    def read(self, path: Path) -> NDArray[np.int32]:
        """The ids of a file's words, those of line ends among them, after one of a line end."""
        found = array("i", [self[END]])
        for words in _lines(path):
            found.extend(map(self.__getitem__, words))
            found.append(self[END])
        if len(found) == 1:
            raise DataError(f"{path} is empty")
        return np.frombuffer(found, dtype=np.int32)


def _lines(path: Path) -> Iterator[list[str]]:
    n_read = 0
    try:
        with path.open("rb") as file:
            for line in file:
                yield line.decode("utf-8").split()
                n_read += 1
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise DataError(f"{path}, line {n_read + 1}: {error}") from None


def _as_words(table: _Table, ids: Mapping[Split, Stream], min_count: int) -> Encoding:
    """Number the words of train from the most frequent one on, after <unk> and <eos>."""
    counts = np.bincount(ids["train"], minlength=len(table))
    counts[:2] = 0
    order = np.argsort(-counts, kind="stable")
    kept = order[counts[order] >= min_count]
    number = np.zeros(len(table), smallest_type(len(kept) + 2))  # the others are <unk>
    number[1] = 1
    number[kept] = np.arange(2, len(kept) + 2)
    distinct = list(table)
    symbols = [UNKNOWN, END, *(distinct[word] for word in kept.tolist())]
    return Encoding(
        streams={split: number[stream] for split, stream in ids.items()},
        symbols=symbols,
        words=np.ones(len(symbols), np.float32),
        bytes=np.array([_word_bytes(word) for word in symbols], np.float32),
    )


def _word_bytes(word: str) -> int:
    """The bytes of a word and the space before it, or of a line's end."""
    return LINE_END_BYTES if word == END else len(word.encode()) + 1


def _as_pieces(table: _Table, ids: Mapping[Split, Stream], bpe: int, source: Path) -> Encoding:
    distinct = list(table)
    tokenizer = _learned(_words_of(ids["train"], distinct), bpe - 2)
    found: list[str] = [
        piece for piece, _ in sorted(tokenizer.get_vocab().items(), key=lambda entry: entry[1])
    ]
    symbols = [UNKNOWN, END, *found]
    if len(symbols) < bpe:
        raise DataError(
            f"{source} has pieces for {len(symbols)} symbols: bpe must be at most that, not {bpe}"
        )
    pieces = [[0], [1]]  # of each distinct word
    for start in range(2, len(distinct), _CHUNK_WORDS):
        for encoding in tokenizer.encode_batch(distinct[start : start + _CHUNK_WORDS]):
            pieces.append([2 + piece for piece in encoding.ids])
    flat = np.array([piece for word in pieces for piece in word], smallest_type(bpe))
    n_pieces = np.array([len(word) for word in pieces])
    first = np.cumsum(n_pieces) - n_pieces  # where a word's pieces begin in `flat`
    starts = [True, True, *(piece.startswith(_START) for piece in found)]
    # A look is one character of each byte.
    n_bytes = [_word_bytes(UNKNOWN), LINE_END_BYTES, *(len(piece) for piece in found)]
    return Encoding(
        streams={split: _expanded(stream, flat, first, n_pieces) for split, stream in ids.items()},
        symbols=symbols,
        words=np.array(starts, np.float32),
        bytes=np.array(n_bytes, np.float32),
    )


def _words_of(stream: Stream, distinct: list[str]) -> Iterator[list[str]]:
    """The words of a split in order, without <unk> and <eos>, some at a time."""
    for start in range(0, len(stream), _CHUNK_WORDS):
        piece = stream[start : start + _CHUNK_WORDS]
        yield [distinct[word] for word in piece[piece > 1].tolist()]


def _learned(words: Iterable[list[str]], n_symbols: int) -> Any:
    """A tokenizer whose unit is the word: what it is given is one, and begins with a space."""
    # Else every process that is forked from this one prints a warning. Set before the import.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True, use_regex=False)
    trainer = trainers.BpeTrainer(
        vocab_size=n_symbols,
        min_frequency=2,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(words, trainer)
    return tokenizer


def _expanded(
    words: Stream, flat: Stream, first: NDArray[np.int64], n_pieces: NDArray[np.int64]
) -> Stream:
    """The pieces of a stream of words, one after the other."""
    found = []
    for start in range(0, len(words), _CHUNK_WORDS):
        chunk = words[start : start + _CHUNK_WORDS]
        lengths = n_pieces[chunk]
        ends = np.cumsum(lengths)
        within = np.arange(ends[-1]) - np.repeat(ends - lengths, lengths)
        found.append(flat[np.repeat(first[chunk], lengths) + within])
    return np.concatenate(found)
