"""Translation, byte by byte or character by character: verses of the Bible, or any pairs of lines.

World English Bible and Reina-Valera 1909, 31,061 verses, both in the public domain. Scores are
chrF, Popović 2015, https://aclanthology.org/W15-3049, and BLEU, Papineni et al. 2002,
https://aclanthology.org/P02-1040, by sacrebleu, Post 2018, https://aclanthology.org/W18-6319, at
its defaults, of the whole split: segments' counts are added, and the formula is applied once.

B batch, T time, S symbols of an answer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Literal, TypeAlias, get_args

from torch import Tensor

from tasks.data import parallel_texts
from tasks.data.answers import Pairs, split_pairs
from tasks.data.cache import set_folder
from tasks.data.own_files import version_of
from tasks.data.packages import need_package
from tasks.data.parallel_texts import ParallelText
from tasks.scoring import Writing
from tasks.task import (
    UNSCORED,
    Batch,
    Count,
    Metric,
    Split,
    Tokens,
    check_choice,
    check_indices,
    check_integer,
)

if TYPE_CHECKING:
    from sacrebleu.metrics.bleu import BLEU
    from sacrebleu.metrics.chrf import CHRF

Unit: TypeAlias = Literal["bytes", "chars"]
UNITS: tuple[Unit, ...] = get_args(Unit)
BIBLE = "web_rv1909.tsv.xz"
PERCENT = 100.0


@lru_cache(maxsize=1)
def _measures() -> tuple[CHRF, BLEU]:
    from sacrebleu.metrics.bleu import BLEU
    from sacrebleu.metrics.chrf import CHRF

    # `force` silences advice about tokens; it changes no score.
    return CHRF(), BLEU(force=True)


def _finish_chrf(sums: Sequence[float], count: float) -> float:
    """ChrF from its counts of n-grams, 0..1."""
    return _measures()[0]._compute_score_from_stats([round(n) for n in sums]).score / PERCENT


def _finish_bleu(sums: Sequence[float], count: float) -> float:
    """BLEU from its counts of n-grams and words, 0..1."""
    return _measures()[1]._compute_score_from_stats([round(n) for n in sums]).score / PERCENT


@dataclass(frozen=True, kw_only=True)
class Translate(Writing):
    """Translate verses from English to Spanish, or any pairs of lines, by chrF and BLEU.

    God said, Let there be light -> Y dijo Dios: Sea la luz. Without a path the verses of the data
    set bible_en_es are read, else a table whose columns are separated by tabs. A hash of the source
    puts one pair in sixteen into val, and one into test, so that the same source is in one split.
    Pairs that are too long are left out, 3 % of the verses at 256 bytes. Chance is 0, nothing
    written; to copy the English verse has a chrF of .175 and a BLEU of .003.
    """

    length: int = 256  # tokens of the longest source
    max_answer: int = 256  # symbols of the longest translation, without the end
    unit: Unit = "bytes"
    path: str = ""  # of a table, from the current folder or from ~; empty: the verses
    source_column: int = -2  # from 0 on, or from -1 on backwards
    target_column: int = -1
    n_val: int = 500  # pairs
    n_test: int = 1000  # pairs

    def __post_init__(self) -> None:
        """Refuse fields that name no task."""
        super().__post_init__()
        check_choice("unit", self.unit, UNITS)
        if not isinstance(self.path, str):
            raise ValueError(f"path must name a file, not {self.path!r}")
        for name in ("source_column", "target_column"):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool):
                raise ValueError(f"{name} must be an integer, not {value!r}")
        if self.source_column == self.target_column:
            raise ValueError(
                f"source_column and target_column must differ, both are {self.source_column}"
            )
        check_integer("max_answer", self.max_answer, at_least=1)
        check_integer("n_val", self.n_val, at_least=1)
        check_integer("n_test", self.n_test, at_least=1)

    @property
    def data_sets(self) -> tuple[str, ...]:
        """The verses, unless a file is given."""
        return () if self.path else ("bible_en_es",)

    @property
    def inputs(self) -> Tokens:
        """Bytes, or the characters of all pairs."""
        return Tokens(256 if self.unit == "bytes" else len(self._text().characters))

    @property
    def n_outputs(self) -> int:
        """The same, and the end."""
        return self.inputs.vocabulary + 1

    @property
    def end_symbol(self) -> int:
        """The last one."""
        return self.n_outputs - 1

    @property
    def tokens(self) -> int:
        """The source and its translation."""
        return self.length + self.max_answer + 1

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """ChrF and BLEU of what was written, and right symbols given those before them."""
        return (
            Metric("chrf", "fraction", higher_is_better=True, chance=0.0, finish=_finish_chrf),
            Metric("bleu", "fraction", higher_is_better=True, chance=0.0, finish=_finish_bleu),
            Metric("forced_accuracy", "fraction", higher_is_better=True, chance=self.chance),
        )

    def size(self, split: Split) -> int:
        """Pairs of a split."""
        n_pairs = len(self._pairs(split))
        if split == "train":
            return n_pairs
        return min(n_pairs, self.n_val if split == "val" else self.n_test)

    def examples(self, split: Split, seed: int, indices: Tensor) -> Batch:
        """The pairs `indices` (B,): sources (B, T) and translations (B, S)."""
        need_package("sacrebleu", "sacrebleu", "task 'translate'")  # before anything is trained
        pairs = self._pairs(split)
        check_indices(indices, self.size(split))
        return pairs.batch(indices, self.length, self.max_answer + 1)

    def score_written(self, written: Tensor, batch: Batch) -> Mapping[str, Count]:
        """The counts of chrF and BLEU, from what was written (B, S)."""
        hypotheses, references = self.read_out(written), self.read_out(batch.targets)
        names = ("chrf", "bleu")
        counts = {}
        for name, measure in zip(names, _measures(), strict=True):
            segments = measure._extract_corpus_statistics(hypotheses, [references])
            sums = [sum(column) for column in zip(*segments, strict=True)]
            counts[name] = Count(
                batch.targets.new_tensor(sums).float(),
                batch.targets.new_tensor(len(batch)).float(),
            )
        return counts

    def read_out(self, symbols: Tensor) -> list[str]:
        """The texts of symbols (B, S); bytes that are no UTF-8 become U+FFFD."""
        ends = (self.end_symbol, UNSCORED)
        rows = [[symbol for symbol in row if symbol not in ends] for row in symbols.tolist()]
        if self.unit == "bytes":
            return [bytes(row).decode("utf-8", errors="replace") for row in rows]
        characters = self._text().characters
        return ["".join(characters[symbol] for symbol in row) for row in rows]

    def fingerprint(self) -> str:
        """The sha256 of the file."""
        return self._text().sha256

    def _text(self) -> ParallelText:
        path = self.path or str(set_folder("bible_en_es") / BIBLE)
        return parallel_texts.read(version_of(path), self.source_column, self.target_column)

    def _pairs(self, split: Split) -> Pairs:
        return _pairs(self._text(), self.unit, self.length, self.max_answer)[split]


@lru_cache(maxsize=8)
def _pairs(text: ParallelText, unit: Unit, length: int, max_answer: int) -> Mapping[Split, Pairs]:
    """The pairs of a text that are short enough, as symbols.

    Raises:
        ValueError: a split has none.
    """
    ids = {character: number for number, character in enumerate(text.characters)}
    end = 256 if unit == "bytes" else len(ids)

    def symbols(line: str) -> list[int]:
        return list(line.encode()) if unit == "bytes" else [ids[character] for character in line]

    encoded = ((source, symbols(source), symbols(target)) for source, target in text.pairs)
    pairs = split_pairs(
        (name, source, [*target, end])
        for name, source, target in encoded
        if len(source) <= length and len(target) <= max_answer
    )
    for split, found in pairs.items():
        if not len(found):
            raise ValueError(
                f"no pair of {split} has at most length {length} and max_answer {max_answer} {unit}"
            )
    return pairs
