"""The beginning of a dump of English Wikipedia from 2006, collected by Matt Mahoney.

enwik8 is its first 100,000,000 bytes as they are, MediaWiki XML; text8 is as much text of a longer
part, of which nothing but the letters a to z and single spaces is left, numbers spelt out. Origin:
http://mattmahoney.net/dc/textdata.html. Licence: CC BY-SA 3.0 and GFDL. The split by position,
90 / 5 / 5 million, is the published one: awd-lstm-lm, data/enwik8/prep_enwik8.py.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

from tasks.data.corpus import Corpus, read_bytes, read_characters

TEXT8_ALPHABET = " abcdefghijklmnopqrstuvwxyz"


@cache
def read_enwik8(folder: Path) -> Corpus:
    """The bytes of the file enwik8."""
    return read_bytes(folder / "enwik8")


@cache
def read_text8(folder: Path) -> Corpus:
    """The characters of the file text8."""
    return read_characters(folder / "text8", TEXT8_ALPHABET)
