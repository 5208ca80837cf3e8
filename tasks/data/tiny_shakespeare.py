"""Tiny Shakespeare: 1,115,394 characters of plays, 65 distinct ones.

Origin: https://github.com/karpathy/char-rnn, data/tinyshakespeare/input.txt. The text is in the
public domain.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

from tasks.data.corpus import Corpus, read_characters

ALPHABET = "\n !$&',-.3:;?ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


@cache
def read(folder: Path) -> Corpus:
    """The characters of the file input.txt, split by position."""
    return read_characters(folder / "input.txt", ALPHABET)
