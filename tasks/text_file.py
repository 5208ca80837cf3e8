"""Language modelling on a text of one's own: point at a file. Nothing else is needed.

bench run -a gru -t text_file --set task.path=my.txt --set task.tokens=words
"""

from __future__ import annotations

from dataclasses import dataclass

from tasks.data import text_files
from tasks.data.corpus import Corpus
from tasks.data.text_files import UNITS, Unit
from tasks.language import LanguageModelling
from tasks.task import check_integer


@dataclass(frozen=True, kw_only=True)
class TextFile(LanguageModelling):
    """The next byte, character or word of any file, in bits or by perplexity.

    Train is the beginning of the file, then comes val, then test. Characters and words are those
    of train that occur there `min_count` times; the others are one symbol, <unk>, which is scored
    like any other, so that scores compare only at the same `min_count`. Words are what stands
    between spaces; a line's end is one more. The fingerprint is a hash of the content: another
    name of the same file makes the same data.
    """

    path: str  # from the current folder, or from ~
    unit: Unit = "bytes"
    min_count: int = 1  # of a character or word in train
    val_share: float = 0.05  # of the text
    test_share: float = 0.05  # of the text, its end

    def __post_init__(self) -> None:
        """Refuse fields that name no task."""
        super().__post_init__()
        if not isinstance(self.path, str) or not self.path:
            raise ValueError(f"path must name a file, not {self.path!r}")
        if self.unit not in UNITS:
            raise ValueError(f"unit must be one of {', '.join(UNITS)}, not {self.unit!r}")
        check_integer("min_count", self.min_count, at_least=1)
        if self.unit == "bytes" and self.min_count != 1:
            raise ValueError(f"min_count must be 1 with unit = bytes, not {self.min_count}")
        for name in ("val_share", "test_share"):
            share = getattr(self, name)
            if not isinstance(share, int | float) or not 0 < share < 0.5:
                raise ValueError(f"{name} must be above 0 and below 0.5, not {share!r}")

    @property
    def symbol(self) -> str:
        """A byte, a char or a word."""
        return self.unit.removesuffix("s")

    def corpus(self) -> Corpus:
        """The file, read again if it has changed."""
        return text_files.read(
            self.path, self.unit, self.min_count, self.val_share, self.test_share
        )
