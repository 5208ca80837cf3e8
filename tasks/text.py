"""Text: is a film review favourable? Read byte by byte.

Maas et al. 2011, https://aclanthology.org/P11-1015; as bytes Tay et al. 2021 (Long Range Arena),
https://arxiv.org/abs/2011.04006, section 2.2.2, and google-research/long-range-arena
lra_benchmarks/text_classification/input_pipeline.py.

B batch, T time.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

from torch import Tensor

from tasks.data import imdb
from tasks.data.documents import BYTE_SYMBOLS
from tasks.scoring import Classification
from tasks.task import Batch, Kind, Split, Tokens, check_indices

Validation = Literal["held_out", "test"]


@dataclass(frozen=True, kw_only=True)
class Text(Classification):
    """Whether a film review is favourable, read byte by byte.

    "A wonderful film ..." -> 1. The first `length` bytes (published: 4000 in tables, 1000 in the
    released configuration); byte b is symbol b + 1, and 0 is padding. 25,000 reviews are train and
    25,000 test; half of each are favourable, so that chance is 0.5.

    Long Range Arena selects on the test set: `validation: test` does so too, and such scores are no
    estimate of anything unseen. By default every tenth of the training reviews is held out for
    validation, those whose texts have the smallest sha256. Films of train are none of test, but a
    few texts are in both, as published.
    """

    kind: ClassVar[Kind] = "per_sequence"
    pool: ClassVar[Literal["last", "mean"]] = "mean"
    data_sets: ClassVar[tuple[str, ...]] = ("imdb",)

    length: int = 4000  # bytes
    validation: Validation = "held_out"  # a tenth of train; "test": the test set itself, as LRA

    def __post_init__(self) -> None:
        """Refuse fields that name no task."""
        super().__post_init__()
        if self.validation not in (choices := get_args(Validation)):
            raise ValueError(f"validation must be one of {choices}, not {self.validation!r}")

    @property
    def inputs(self) -> Tokens:
        """Padding and bytes."""
        return Tokens(BYTE_SYMBOLS)

    @property
    def n_outputs(self) -> int:
        """Not favourable, favourable."""
        return 2

    def size(self, split: Split) -> int:
        """Reviews of a split."""
        if split == "test" or (split == "val" and self.validation == "test"):
            return imdb.N_REVIEWS
        held_out = imdb.N_REVIEWS // 10 if self.validation == "held_out" else 0
        return held_out if split == "val" else imdb.N_REVIEWS - held_out

    def examples(self, split: Split, seed: int, indices: Tensor) -> Batch:
        """The reviews `indices` (B,) of a split, whatever the seed, and their classes (B,)."""
        check_indices(indices, self.size(split))
        published: Literal["train", "test"] = "train"
        rows = indices
        if split == "test" or (split == "val" and self.validation == "test"):
            published = "test"
        elif split == "train":
            rows = indices + imdb.N_REVIEWS - self.size("train")
        read = imdb.reviews(published)
        inputs, lengths = read.texts.padded(rows, self.length, shift=1)
        return Batch(inputs=inputs, targets=read.labels[rows], lengths=lengths)

    def fingerprint(self) -> str:
        """The sha256 of the reviews."""
        return imdb.sha256()
