"""A text as numbered symbols, one stream per split, read piece by piece from a memory-mapped file.

V symbols, n tokens of a split, B windows, T their length.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tasks.data.errors import DataError
from tasks.task import Split

Stream: TypeAlias = NDArray[Any]  # uint8, uint16 or int32

CHUNK_TOKENS = 2**22
"""Tokens that are counted at once: counting takes 8 bytes of each."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Corpus:
    """The three splits of a text. Two are equal only if they are the same object."""

    streams: Mapping[Split, Stream]  # (1 + n,): what comes before the first token, then all
    n_symbols: int
    sha256: str  # of the text, and of the symbols where they are learned
    numbers: NDArray[np.int64] | None = None  # (256,): of a stored byte; None: the value itself
    words: Tensor | None = None  # (V,) float32: words that a symbol stands for, or begins
    bytes: Tensor | None = None  # (V,) float32: bytes of the text that a symbol stands for
    _counts: dict[tuple[Split, int], NDArray[np.int64]] = field(default_factory=dict, repr=False)

    def n_tokens(self, split: Split) -> int:
        """How many tokens a split has: n."""
        return len(self.streams[split]) - 1

    def windows(self, split: Split, starts: Tensor, length: int) -> Tensor:
        """The tokens (B, T + 1) int64 around windows: the one before, then those of the window.

        Beyond the end of the stream its last token is repeated.
        """
        stream = self.streams[split]
        places = (starts[:, None] + torch.arange(length + 1)).clamp(max=len(stream) - 1)
        found = stream[places.numpy()]
        numbered = found.astype(np.int64) if self.numbers is None else self.numbers[found]
        return torch.from_numpy(numbered)  # (B, T+1)

    def counts(self, split: Split, n_tokens: int) -> NDArray[np.int64]:
        """How often each symbol occurs (V,) among the first tokens of a split."""
        key = (split, n_tokens)
        if key not in self._counts:
            stream, total = self.streams[split][1 : n_tokens + 1], np.zeros(256, np.int64)
            if self.numbers is None:
                total = np.zeros(self.n_symbols, np.int64)
            for start in range(0, len(stream), CHUNK_TOKENS):
                piece = stream[start : start + CHUNK_TOKENS]
                total += np.bincount(piece, minlength=len(total))
            if self.numbers is not None:
                by_byte, total = total, np.zeros(self.n_symbols, np.int64)
                np.add.at(total, self.numbers[by_byte > 0], by_byte[by_byte > 0])
            self._counts[key] = total
        return self._counts[key]

    def unigram_nats(self, n_tokens: int) -> float:
        """Nats of the first tokens of test, each known by how often it occurs in train, plus one:
        a symbol may be missing there.
        """
        train = self.counts("train", self.n_tokens("train")) + 1.0
        surprise = math.log(train.sum()) - np.log(train)  # (V,)
        return float(self.counts("test", n_tokens) @ surprise)


def cut(stream: Stream, val_share: float, test_share: float, source: Path) -> dict[Split, Stream]:
    """Cut one text by position: first train, then val, then test.

    The token before the first of val and of test is the last of the split before it.

    Raises:
        DataError: a split would be empty.
    """
    n_val, n_test = round(len(stream) * val_share), round(len(stream) * test_share)
    val, test = len(stream) - n_test - n_val, len(stream) - n_test
    if val < 2 or n_val < 1 or n_test < 1:
        raise DataError(f"{source} has {len(stream)} tokens: too few for three splits")
    return {"train": stream[:val], "val": stream[val - 1 : test], "test": stream[test - 1 :]}


def mapped(path: Path) -> NDArray[np.uint8]:
    """The bytes of a file, which processes share and read only where they look.

    Raises:
        DataError: it is empty or cannot be read.
    """
    try:
        if path.stat().st_size == 0:
            raise DataError(f"{path} is empty")
        return np.memmap(path, dtype=np.uint8, mode="r")
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}") from None


def read_characters(
    path: Path, alphabet: str, val_share: float = 0.05, test_share: float = 0.05
) -> Corpus:
    """A text of one-byte characters, split by position.

    Args:
        path: the file.
        alphabet: every character that may occur; its place is its number.
        val_share: of the text.
        test_share: of the text, its end.

    Raises:
        DataError: another character occurs, or the file is too short.
    """
    text = mapped(path)
    numbers = np.full(256, -1, np.int64)
    numbers[list(alphabet.encode("ascii"))] = np.arange(len(alphabet))
    for start in range(0, len(text), CHUNK_TOKENS):
        piece = text[start : start + CHUNK_TOKENS]
        (strange,) = np.nonzero(numbers[piece] < 0)
        if len(strange):
            place, byte = start + int(strange[0]), bytes([piece[strange[0]]])
            raise DataError(f"{path}: {byte!r} at byte {place} is none of {alphabet!r}")
    return Corpus(
        streams=cut(text, val_share, test_share, path),
        n_symbols=len(alphabet),
        sha256=sha256_of(path),
        numbers=numbers,
    )


def read_bytes(path: Path, val_share: float = 0.05, test_share: float = 0.05) -> Corpus:
    """A file as bytes, split by position.

    Raises:
        DataError: it is too short.
    """
    streams = cut(mapped(path), val_share, test_share, path)
    return Corpus(streams=streams, n_symbols=256, sha256=sha256_of(path))


def sha256_of(*paths: Path) -> str:
    """The hash of the contents of files, one after the other.

    Raises:
        DataError: one cannot be read.
    """
    digest = hashlib.sha256()
    for path in paths:
        try:
            with path.open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
        except OSError as error:
            raise DataError(f"{path}: {error.strerror}") from None
    return digest.hexdigest()


def smallest_type(n_symbols: int) -> type[np.uint8 | np.uint16 | np.int32]:
    """The type of the fewest bytes that holds the numbers of all symbols."""
    if n_symbols <= 2**8:
        return np.uint8
    return np.uint16 if n_symbols <= 2**16 else np.int32
