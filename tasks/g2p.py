"""Grapheme to phoneme: write the pronunciation of an English word.

The CMU pronouncing dictionary, see tasks/data/cmudict.py. The measures are those of the field, as
in Yao and Zweig 2015, https://arxiv.org/abs/1506.00196, section 4: where a word has several
pronunciations, the closest one counts. The split is the project's own: not to be compared with
published numbers.

B batch, T letters, S symbols of an answer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar

from torch import Tensor

from tasks.data import cmudict
from tasks.data.answers import Pairs, split_pairs
from tasks.data.cache import set_folder
from tasks.data.cmudict import LETTERS, Dictionary
from tasks.data.hashing import split_of
from tasks.data.stamp import hash_file
from tasks.scoring import Writing
from tasks.task import UNSCORED, Batch, Count, Metric, Split, Tokens, check_indices, check_integer


def edit_distance(one: Sequence[int], other: Sequence[int]) -> int:
    """Insertions, deletions and substitutions from one to the other: Levenshtein 1966."""
    row = list(range(len(other) + 1))
    for i, a in enumerate(one, 1):
        diagonal, row[0] = row[0], i
        for j, b in enumerate(other, 1):
            diagonal, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, diagonal + (a != b))
    return row[-1]


@dataclass(frozen=True, kw_only=True)
class G2p(Writing):
    """Write the phones of an English word, by phone error rate and word accuracy.

    k n i g h t -> N AY T and the end. 124,926 words, split by word. A word of train is one example
    for each pronunciation; one of val or test is a single example, whose first pronunciation is the
    target of forced_accuracy. The error rate is the edit distance to the closest pronunciation over
    the length of that one, both summed over words: 1 if nothing is written.
    """

    data_sets: ClassVar[tuple[str, ...]] = ("cmudict",)

    length: int = 20  # letters; longer words, 2 of all at 20, are left out
    stress: bool = False  # whether vowels have their stress: 69 phones instead of 39
    n_val: int = 500  # words; there are about 7,800
    n_test: int = 1000  # words

    def __post_init__(self) -> None:
        """Refuse fields that name no task."""
        super().__post_init__()
        if not isinstance(self.stress, bool):
            raise ValueError(f"stress must be true or false, not {self.stress!r}")
        check_integer("n_val", self.n_val, at_least=1)
        check_integer("n_test", self.n_test, at_least=1)

    @property
    def inputs(self) -> Tokens:
        """The apostrophe and the letters."""
        return Tokens(len(LETTERS))

    @property
    def n_outputs(self) -> int:
        """The phones, and the end."""
        return len(self._dictionary().phones) + 1

    @property
    def end_symbol(self) -> int:
        """The last one."""
        return self.n_outputs - 1

    @property
    def n_symbols(self) -> int:
        """S: the longest pronunciation and its end."""
        return _longest(self._dictionary(), self.length) + 1

    @property
    def tokens(self) -> int:
        """The word and its answer."""
        return self.length + self.n_symbols

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """Phone error rate, words that are wholly right, and right symbols given the past."""
        return (
            Metric("phone_error_rate", "fraction", higher_is_better=False, chance=1.0),
            Metric("word_accuracy", "fraction", higher_is_better=True, chance=0.0),
            Metric("forced_accuracy", "fraction", higher_is_better=True, chance=self.chance),
        )

    def size(self, split: Split) -> int:
        """Pronunciations of train, words of val and test."""
        n_pairs = len(self._pairs(split))
        return n_pairs if split == "train" else min(n_pairs, self._wanted(split))

    def examples(self, split: Split, seed: int, indices: Tensor) -> Batch:
        """The words `indices` (B,): letters (B, T) and phones (B, S)."""
        check_indices(indices, self.size(split))
        return self._pairs(split).batch(indices, self.length, self.n_symbols)

    def score_written(self, written: Tensor, batch: Batch) -> Mapping[str, Count]:
        """Phone error rate and word accuracy, from what was written (B, S)."""
        assert batch.lengths is not None
        dictionary, ends = self._dictionary(), (self.end_symbol, UNSCORED)
        numbers = {phone: number for number, phone in enumerate(dictionary.phones)}
        errors = phones = right = 0
        rows = zip(batch.inputs.tolist(), batch.lengths.tolist(), written.tolist(), strict=True)
        for letters, n_letters, answer in rows:
            word = "".join(LETTERS[letter] for letter in letters[:n_letters])
            said = [symbol for symbol in answer if symbol not in ends]
            distance, n_phones = min(
                (edit_distance(said, [numbers[phone] for phone in way]), len(way))
                for way in dictionary.pronunciations[word]
            )
            errors += distance
            phones += n_phones
            right += distance == 0

        def number(value: int) -> Tensor:
            return batch.targets.new_tensor(value).float()

        return {
            "phone_error_rate": Count(number(errors), number(phones)),
            "word_accuracy": Count(number(right), number(len(batch))),
        }

    def fingerprint(self) -> str:
        """The sha256 of the file."""
        return hash_file(set_folder("cmudict") / cmudict.FILE_NAME)

    def _wanted(self, split: Split) -> int:
        return self.n_val if split == "val" else self.n_test

    def _dictionary(self) -> Dictionary:
        return cmudict.read(set_folder("cmudict") / cmudict.FILE_NAME, self.stress)

    def _pairs(self, split: Split) -> Pairs:
        return _pairs(self._dictionary(), self.length)[split]


@lru_cache(maxsize=8)
def _longest(dictionary: Dictionary, length: int) -> int:
    """Phones of the longest pronunciation of a word of at most `length` letters."""
    return max(
        (
            len(way)
            for word, ways in dictionary.pronunciations.items()
            for way in ways
            if len(word) <= length
        ),
        default=0,
    )


@lru_cache(maxsize=8)
def _pairs(dictionary: Dictionary, length: int) -> Mapping[Split, Pairs]:
    phone_ids = {phone: number for number, phone in enumerate(dictionary.phones)}
    letter_ids = {letter: number for number, letter in enumerate(LETTERS)}
    end = len(phone_ids)
    return split_pairs(
        (word, [letter_ids[letter] for letter in word], [*(phone_ids[p] for p in way), end])
        for word, ways in dictionary.pronunciations.items()
        if len(word) <= length
        for way in (ways if split_of(word) == "train" else ways[:1])
    )
