"""Recordings of single words: the files of the Free Spoken Digit Dataset and of Speech Commands.

Origins and licences: tasks/data/sets.py (`fsdd`, `speech_commands`).
"""

from __future__ import annotations

import hashlib
import re
import wave
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from tasks.data.errors import DataError
from tasks.task import SPLITS, Split

FSDD_NAME = re.compile(r"([0-9])_[a-z]+_([0-9]+)\.wav")


class Listing(NamedTuple):
    """The recordings of a split, in a fixed order."""

    paths: tuple[Path, ...]
    labels: Tensor  # (N,) int64


@cache
def list_fsdd(folder: Path) -> dict[Split, Listing]:
    """The recordings <digit>_<speaker>_<index>.wav of a folder, by the published rule.

    Index 0 to 4 of each digit and speaker is test, what comes after is train (README of the
    repository); of that, 5 to 9 are val here. The order is that of a hash of the name, so that any
    run of neighbours holds all digits.

    Raises:
        DataError: a file has another name, or a split would be empty.
    """
    rows: dict[Split, list[tuple[str, int]]] = {split: [] for split in SPLITS}
    for path in folder.glob("*.wav"):
        match = FSDD_NAME.fullmatch(path.name)
        if match is None:
            raise DataError(f"{path} is not named <digit>_<speaker>_<index>.wav")
        index = int(match[2])
        split: Split = "test" if index < 5 else "val" if index < 10 else "train"
        rows[split].append((path.name, int(match[1])))
    return {split: _listing(folder, split, found) for split, found in rows.items()}


@cache
def list_speech_commands(folder: Path, words: tuple[str, ...]) -> dict[Split, Listing]:
    """The recordings <word>/<file>.wav of a folder that are of `words`, by the published lists.

    `validation_list.txt` and `testing_list.txt` name the files of val and test, all others are
    train; they hold whole speakers. The label is the word's place in `words`. The order is that of
    a hash of the path, as above.

    Raises:
        DataError: a word has no folder, or a list names a file that is not there.
    """
    rows: dict[Split, list[tuple[str, int]]] = {split: [] for split in SPLITS}
    held_out: dict[str, Split] = {}
    names: tuple[tuple[Split, str], ...] = (
        ("val", "validation_list.txt"),
        ("test", "testing_list.txt"),
    )
    for split, name in names:
        for line in (folder / name).read_text(encoding="utf-8").split():
            held_out[line] = split
    for label, word in enumerate(words):
        if not (folder / word).is_dir():
            raise DataError(f"{folder} has no folder of the word {word!r}")
        listed = {path for path in held_out if path.startswith(f"{word}/")}
        for file in (folder / word).glob("*.wav"):
            path = f"{word}/{file.name}"
            rows[held_out.get(path, "train")].append((path, label))
            listed.discard(path)
        if listed:
            raise DataError(f"{folder}: {min(listed)} is held out by a list, but is not there")
    return {split: _listing(folder, split, found) for split, found in rows.items()}


def _listing(folder: Path, split: Split, rows: list[tuple[str, int]]) -> Listing:
    if not rows:
        raise DataError(f"{folder} has no recordings of {split}")
    rows = sorted(rows, key=lambda row: hashlib.sha256(row[0].encode()).digest())
    return Listing(
        tuple(folder / name for name, _ in rows), torch.tensor([label for _, label in rows])
    )


def read_wave(path: Path, rate: int) -> Tensor:
    """The samples (N,) of a recording in -1..1.

    Raises:
        DataError: it is not one channel of 16-bit samples at `rate` per second.
    """
    try:
        with wave.open(str(path), "rb") as file:
            form = (file.getnchannels(), file.getsampwidth(), file.getframerate())
            content = file.readframes(file.getnframes())
    except (EOFError, wave.Error) as error:
        raise DataError(f"{path} is no wave file: {error}") from None
    if form != (1, 2, rate):
        channels, width, found = form
        raise DataError(
            f"{path} has {channels} channels of {8 * width} bits at {found} Hz, "
            f"not one of 16 bits at {rate} Hz"
        )
    if not content:
        raise DataError(f"{path} has no samples")
    samples = np.frombuffer(content, dtype="<i2").astype(np.float32)
    return torch.from_numpy(samples / 32768)
