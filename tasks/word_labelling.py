"""Labels of words in sentences, for tasks that read CoNLL files.

B batch, T time, K labels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from tasks.data.columns import Corpus
from tasks.data.packages import need_package
from tasks.data.word_windows import (
    CONTEXTS,
    UNITS,
    Context,
    Unit,
    Windows,
    commonest_label_accuracy,
    vocabulary,
    windows,
)
from tasks.scoring import Classification
from tasks.task import (
    UNSCORED,
    Batch,
    Count,
    Kind,
    Metric,
    Split,
    Tokens,
    check_choice,
    check_indices,
    check_integer,
)


def or_zero(sums: Sequence[float], count: float) -> float:
    """The only sum, divided by the count; 0 if nothing was counted, as seqeval has it."""
    return sums[0] / count if count else 0.0


def entity_counts(answers: Tensor, targets: Tensor, labels: Sequence[str]) -> dict[str, Count]:
    """Entities that are right in type and both ends, as seqeval finds them (its default mode).

    Args:
        answers: numbers of labels (B, T).
        targets: the same (B, T), UNSCORED where none is asked for.
        labels: their names, O, B-<type> and I-<type>.
    """
    from seqeval.metrics.sequence_labeling import get_entities

    right = answered = true = 0
    for row, wanted in zip(answers.tolist(), targets.tolist(), strict=True):
        pairs = [(labels[a], labels[t]) for a, t in zip(row, wanted, strict=True) if t != UNSCORED]
        found = set(get_entities([a for a, _ in pairs]))
        there = set(get_entities([t for _, t in pairs]))
        right += len(found & there)
        answered += len(found)
        true += len(there)

    def number(value: int) -> Tensor:
        return torch.tensor(float(value), device=targets.device)

    return {
        "f1": Count(number(2 * right), number(answered + true)),
        "precision": Count(number(right), number(answered)),
        "recall": Count(number(right), number(true)),
    }


@dataclass(frozen=True, kw_only=True)
class WordLabelling(Classification):
    """One label for every word: subclasses write `read`.

    As words, a token is a word of train that occurs there `min_count` times, and any other is
    <unk>. As bytes, a token is a byte of UTF-8, with a space after every word and a line's end
    after every sentence; a word's label is asked for at its last byte. Examples are padded
    sentences, or as many whole sentences of a document as there is room for. A sentence that is too
    long is cut between words, never within an entity unless that alone is too long. Every word is
    scored once; where one has more bytes than there is room for, its end is read.
    """

    kind: ClassVar[Kind] = "per_step"
    entities: ClassVar[bool] = False
    """Whether labels are tags of entities, which are scored by F1."""

    length: int = 64  # tokens
    unit: Unit = "words"
    context: Context = "sentence"  # what an example is a part of
    min_count: int = 2  # of a word in train

    def __post_init__(self) -> None:
        """Refuse fields that name no task."""
        super().__post_init__()
        check_choice("unit", self.unit, UNITS)
        check_choice("context", self.context, CONTEXTS)
        check_integer("min_count", self.min_count, at_least=1)

    def read(self) -> Corpus:
        """The data."""
        raise NotImplementedError

    @property
    def inputs(self) -> Tokens:
        """Words, <unk> among them, or bytes."""
        if self.unit == "bytes":
            return Tokens(256)
        return Tokens(1 + len(vocabulary(self.read(), self.min_count)))

    @property
    def labels(self) -> tuple[str, ...]:
        """The names of the outputs."""
        return self.read().labels

    @property
    def n_outputs(self) -> int:
        """The labels."""
        return len(self.labels)

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """Accuracy of words; or F1, precision and recall of entities, 0 if all is O."""
        if self.entities:
            return (
                Metric("f1", "fraction", higher_is_better=True, chance=0.0, finish=or_zero),
                Metric("precision", "fraction", higher_is_better=True, chance=0.0, finish=or_zero),
                Metric("recall", "fraction", higher_is_better=True, chance=0.0, finish=or_zero),
            )
        return (
            Metric(
                "accuracy",
                "fraction",
                higher_is_better=True,
                chance=self.chance,
                baseline=commonest_label_accuracy(self.read()),
                baseline_rule="the commonest label of each word in train",
            ),
        )

    def size(self, split: Split) -> int:
        """Examples of a split."""
        return len(self._windows(split).tokens)

    def examples(self, split: Split, seed: int, indices: Tensor) -> Batch:
        """The sentences `indices` (B,), or the parts of documents, in the order of the files."""
        if self.entities:  # before anything is trained that could not be scored
            need_package("seqeval", "seqeval", "the score of tagged entities")
        found = self._windows(split)
        check_indices(indices, len(found.tokens))
        inputs, lengths = found.tokens.padded(indices, self.length, 0)
        targets, _ = found.labels.padded(indices, self.length, UNSCORED)
        return Batch(inputs=inputs, targets=targets, lengths=lengths)

    def score(self, outputs: Tensor, targets: Tensor) -> Mapping[str, Count]:
        """Accuracy; or F1, precision and recall."""
        if not self.entities:
            return super().score(outputs, targets)
        return entity_counts(outputs.argmax(-1), targets, self.labels)

    def fingerprint(self) -> str:
        """The sha256 of the files."""
        return self.read().sha256

    def _windows(self, split: Split) -> Windows:
        corpus = self.read()
        return windows(corpus, split, self.length, self.unit, self.context, self.min_count)
