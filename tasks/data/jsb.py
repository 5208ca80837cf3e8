"""Bach's four-part chorales as piano rolls, in the JSON files of czhuang.

Origin and licence: tasks/data/sets.py (`jsb`). A file is an object of `train`, `valid` and `test`,
each a list of pieces, a piece a list of frames, a frame the list of its sounding MIDI notes.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from tasks.data.errors import DataError
from tasks.task import Split

LOWEST, N_NOTES = 21, 88  # the keys of a piano
KEYS: dict[Split, str] = {"train": "train", "val": "valid", "test": "test"}


class Pieces(NamedTuple):
    """The frames of all pieces one after another, and how many each piece has."""

    frames: Tensor  # (N, 88) uint8, 1 where a note sounds
    sizes: Tensor  # (pieces,) int64


@cache
def read(path: Path) -> dict[Split, Pieces]:
    """The pieces of each split as published.

    Raises:
        DataError: naming the piece and frame that is no list of notes 21 to 108.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(f"{path} is no JSON: {error}") from None
    if not isinstance(content, dict) or set(content) != set(KEYS.values()):
        raise DataError(f"{path} must have the keys {', '.join(KEYS.values())}")
    return {split: _pieces(path, key, content[key]) for split, key in KEYS.items()}


def _pieces(path: Path, key: str, pieces: object) -> Pieces:
    if not isinstance(pieces, list) or not pieces:
        raise DataError(f"{path}: {key} must be a list of pieces")
    sizes: list[int] = []
    frames: list[int] = []  # of each note
    notes: list[int] = []
    n_before = 0
    for number, piece in enumerate(pieces):
        where = f"{path}: {key}, piece {number}"
        if not isinstance(piece, list) or len(piece) < 2:
            raise DataError(f"{where} must be a list of at least two frames")
        for place, frame in enumerate(piece):
            if not isinstance(frame, list) or not all(_is_note(note) for note in frame):
                raise DataError(
                    f"{where}, frame {place} must be a list of notes {LOWEST}.."
                    f"{LOWEST + N_NOTES - 1}, not {frame!r}"
                )
            frames += [n_before + place] * len(frame)
            notes += [int(note) - LOWEST for note in frame]
        sizes.append(len(piece))
        n_before += len(piece)
    roll = torch.zeros(n_before, N_NOTES, dtype=torch.uint8)
    roll[frames, notes] = 1  # two voices may sing one note
    return Pieces(roll, torch.tensor(sizes))


def _is_note(note: object) -> bool:
    """Whether it is an integer in range; one of the files writes some as 67.0."""
    return type(note) in (int, float) and note in range(LOWEST, LOWEST + N_NOTES)
