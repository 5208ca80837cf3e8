"""Byte language modelling on enwik8, 100 MB of Wikipedia's XML: tasks/data/mahoney.py."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from tasks.data import mahoney
from tasks.data.corpus import Corpus
from tasks.data.folders import folder_of
from tasks.language import LanguageModelling


@dataclass(frozen=True, kw_only=True)
class Enwik8(LanguageModelling):
    """The next byte of Wikipedia's XML, in bits per byte.

    The first 90 million bytes are train, the next 5 val and the last 5 test, all of them scored
    unless told otherwise. Chance is 8. Dai et al. 2019, https://arxiv.org/abs/1901.02860, table 2:
    0.99 for the Transformer-XL of 24 layers.
    """

    data_sets: ClassVar[tuple[str, ...]] = ("enwik8",)

    @property
    def symbol(self) -> str:
        """Bytes."""
        return "byte"

    @property
    def n_outputs(self) -> int:
        """The next byte."""
        return 256

    def corpus(self) -> Corpus:
        """The file, memory-mapped."""
        return mahoney.read_enwik8(folder_of("enwik8"))
