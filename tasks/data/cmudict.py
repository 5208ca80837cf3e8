"""The CMU pronouncing dictionary: English words and their phones.

Origin: https://github.com/cmusphinx/cmudict. Licence: BSD-2-Clause. Lines of a word and its phones,
vowels with their stress (0 none, 1 primary, 2 secondary); further pronunciations of a word have
(2), (3) after it; what follows # is a comment.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from tasks.data.errors import DataError

FILE_NAME = "cmudict.dict"
LETTERS = "'abcdefghijklmnopqrstuvwxyz"

_VARIANT = re.compile(r"\(\d+\)$")
_PHONE = re.compile(r"[A-Z]{1,2}[012]?")


@dataclass(frozen=True, eq=False)
class Dictionary:
    """Words of letters and apostrophes, and every pronunciation of each, none twice."""

    pronunciations: Mapping[str, tuple[tuple[str, ...], ...]]
    phones: tuple[str, ...]  # sorted


@lru_cache(maxsize=4)
def read(path: Path, stress: bool) -> Dictionary:
    """The words of LETTERS; those with full stops, hyphens or digits, 0.9 %, are left out.

    Args:
        path: the file.
        stress: whether vowels keep their stress; without it, some pronunciations are one.

    Raises:
        DataError: a line is not of the format; it is named.
    """
    found: dict[str, dict[tuple[str, ...], None]] = {}
    plain: dict[str, str] = {}  # phones seen so far, without their stress
    lines = path.read_text(encoding="utf-8").split("\n")
    for number, line in enumerate(lines, 1):
        cells = line.partition("#")[0].split()
        if not cells:
            continue
        word, phones = _VARIANT.sub("", cells[0]), cells[1:]
        if not plain.keys() >= set(phones):
            plain |= {new: new.rstrip("012") for new in phones if _PHONE.fullmatch(new)}
        if not phones or not plain.keys() >= set(phones):
            raise DataError(f"{path}, line {number} is no word and its phones: {line!r}")
        if set(word) <= set(LETTERS):
            kept = phones if stress else [plain[phone] for phone in phones]
            found.setdefault(word, {})[tuple(kept)] = None
    if not found:
        raise DataError(f"{path} has no words")
    known = {phone for ways in found.values() for way in ways for phone in way}
    return Dictionary({word: tuple(ways) for word, ways in found.items()}, tuple(sorted(known)))
