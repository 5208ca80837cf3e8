"""Texts that were numbered once: kept in the cache folder, memory-mapped by every later process.

A folder `encoded/<kind>-<key>` holds one file per array and `symbols.json`; the key is a hash of
the text's content, of all settings and of VERSION, so that nothing ever has to be thrown away.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tasks.data.cache import cache_folder
from tasks.data.corpus import Corpus, Stream
from tasks.data.errors import DataError
from tasks.data.stamp import exclusive
from tasks.task import SPLITS, Split

VERSION = 1
"""Raised whenever the same text and settings would be numbered in another way."""
SYMBOLS = "symbols.json"


@dataclass(frozen=True, kw_only=True, eq=False)
class Encoding:
    """A text as numbers, and what each number stands for."""

    streams: Mapping[Split, Stream]  # (1 + n,), as in Corpus
    symbols: list[str]  # (V,)
    words: NDArray[np.float32] | None = None  # (V,)
    bytes: NDArray[np.float32] | None = None  # (V,)


def encoded(
    kind: str, content: str, settings: Mapping[str, object], build: Callable[[], Encoding]
) -> Corpus:
    """The text as it was numbered before, or as `build` numbers it now.

    One process builds while others wait, and the folder appears at once or not at all. Where the
    cache cannot be written, every process numbers the text for itself.

    Args:
        kind: a word for people who look into the cache folder.
        content: the sha256 of the text.
        settings: all that `build` depends on besides the text.
        build: numbers the text.
    """
    given = json.dumps([VERSION, kind, content, settings], sort_keys=True)
    key = hashlib.sha256(given.encode()).hexdigest()[:24]
    folder = cache_folder() / "encoded" / f"{kind}-{key}"
    with exclusive(folder) as writable:
        if not (folder / "done").is_dir():
            built = build()
            if not writable:
                return _corpus(built, content)
            _write(folder / "done", built)
    return _corpus(_load(folder / "done"), content)


def _corpus(encoding: Encoding, content: str) -> Corpus:
    symbols = json.dumps(encoding.symbols)
    return Corpus(
        streams=encoding.streams,
        n_symbols=len(encoding.symbols),
        sha256=hashlib.sha256(f"{content} {symbols}".encode()).hexdigest(),
        words=_tensor(encoding.words),
        bytes=_tensor(encoding.bytes),
    )


def _tensor(table: NDArray[np.float32] | None) -> Tensor | None:
    return None if table is None else torch.from_numpy(np.array(table))


def _write(folder: Path, encoding: Encoding) -> None:
    staging = Path(tempfile.mkdtemp(dir=folder.parent, prefix=".partial-"))
    try:
        tables = {"words": encoding.words, "bytes": encoding.bytes}
        kept = {name: table for name, table in tables.items() if table is not None}
        for name, array in [*encoding.streams.items(), *kept.items()]:
            with (staging / f"{name}.npy").open("xb") as file:
                np.save(file, array, allow_pickle=False)
                file.flush()
                os.fsync(file.fileno())
        with (staging / SYMBOLS).open("x", encoding="utf-8") as text:
            json.dump(encoding.symbols, text)
            text.flush()
            os.fsync(text.fileno())
        staging.chmod(0o755)  # mkdtemp makes it private
        staging.rename(folder)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _load(folder: Path) -> Encoding:
    try:
        symbols = json.loads((folder / SYMBOLS).read_text(encoding="utf-8"))
        streams = {split: np.load(folder / f"{split}.npy", mmap_mode="r") for split in SPLITS}
        tables = {
            name: np.load(folder / f"{name}.npy") if (folder / f"{name}.npy").exists() else None
            for name in ("words", "bytes")
        }
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"{folder} is broken, remove it: {error}") from None
    return Encoding(streams=streams, symbols=symbols, **tables)
