"""Anybody's own text: a file as bytes, as characters or as words."""

from __future__ import annotations

import difflib
from functools import lru_cache
from pathlib import Path
from typing import Literal, TypeAlias, get_args

import numpy as np

from tasks.data.corpus import Corpus, cut, read_bytes, sha256_of, smallest_type
from tasks.data.encoded import Encoding, encoded
from tasks.data.errors import DataError
from tasks.data.words import read_text_words

Unit: TypeAlias = Literal["bytes", "chars", "words"]
UNITS: tuple[Unit, ...] = get_args(Unit)
UNKNOWN_CHARACTER = "\ufffd"


def read(given: str, unit: Unit, min_count: int, val_share: float, test_share: float) -> Corpus:
    """The file at a path, which counts from the current folder and may begin with ~.

    It is read again if its size or time has changed.

    Raises:
        DataError: there is no such file, or it cannot be read in this unit.
    """
    path = Path(given).expanduser().absolute()
    if not path.is_file():
        raise DataError(f"there is no file {path}{_nearest(path)}")
    status = path.stat()
    return _read(path, status.st_size, status.st_mtime_ns, unit, min_count, val_share, test_share)


@lru_cache(maxsize=4)
def _read(
    path: Path,
    size: int,
    mtime_ns: int,
    unit: Unit,
    min_count: int,
    val_share: float,
    test_share: float,
) -> Corpus:
    if unit == "bytes":
        return read_bytes(path, val_share, test_share)
    if unit == "words":
        return read_text_words(path, min_count, val_share, test_share)
    return _read_characters(path, min_count, val_share, test_share)


def _read_characters(path: Path, min_count: int, val_share: float, test_share: float) -> Corpus:
    """Characters of UTF-8; those rarer than `min_count` in train are one, the unknown one."""

    def build() -> Encoding:
        try:
            text = path.read_bytes().decode("utf-8")
        except UnicodeDecodeError as error:
            raise DataError(f"{path} is not UTF-8, read it as bytes: {error}") from None
        points = np.frombuffer(text.encode("utf-32-le"), dtype="<u4")
        splits = cut(points, val_share, test_share, path)
        found, counts = np.unique(splits["train"], return_counts=True)
        known = found[(counts >= min_count) & (found != ord(UNKNOWN_CHARACTER))]
        number = np.zeros(0x110000, smallest_type(len(known) + 1))
        number[known] = np.arange(1, len(known) + 1)
        return Encoding(
            streams={split: number[stream] for split, stream in splits.items()},
            symbols=[UNKNOWN_CHARACTER, *map(chr, known.tolist())],
        )

    settings: dict[str, object] = {
        "min_count": min_count,
        "val_share": val_share,
        "test_share": test_share,
    }
    return encoded("text_file-chars", sha256_of(path), settings, build)


def _nearest(path: Path) -> str:
    """The file beside a missing one whose name is nearest, as the end of a message."""
    folder = path.parent
    if not folder.is_dir():
        return f": there is no folder {folder}"
    names = sorted(entry.name for entry in folder.iterdir() if entry.is_file())
    near = difflib.get_close_matches(path.name, names, n=1, cutoff=0.5)
    return f"; did you mean {folder / near[0]}?" if near else ""
