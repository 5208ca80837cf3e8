"""Language modelling: what the tasks that predict the next token of a text have in common.

Evaluation is the standard one, twice: val and test are cut into consecutive windows that do not
overlap, each read from an empty state; the test split then once more with the state carried from
window to window (`test_<metric>_carried`). Every token is scored once, the first one of a split
too: a model reads before it what comes before it, the last token of the split before or, where
splits are files of words, a line's end.

V symbols, T length, n tokens of a split, B windows.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from tasks.data.corpus import Corpus
from tasks.data.words import MIN_PIECES
from tasks.scoring import cross_entropy, perplexity
from tasks.task import (
    UNSCORED,
    Batch,
    Count,
    Kind,
    Metric,
    Split,
    Task,
    Tokens,
    check_indices,
    check_integer,
    generator,
)


@dataclass(frozen=True, kw_only=True)
class LanguageModelling(Task):
    """Trained by cross-entropy on the next token, scored in bits per byte or by perplexity.

    Training windows start anywhere, drawn anew for every index. The last window of val and of test
    is filled up with tokens that are not scored. Metrics read the data: their chance is what the
    uniform guess scores on the test split, their baseline how often each symbol occurs in train.
    """

    kind: ClassVar[Kind] = "per_step"
    causal_only: ClassVar[bool] = True
    contiguous: ClassVar[bool] = True

    length: int = 256  # tokens
    n_val_tokens: int | None = None  # the first so many are scored; None: all, as published
    n_test_tokens: int | None = None

    def __post_init__(self) -> None:
        """Refuse fields that name no task."""
        super().__post_init__()
        for name in ("n_val_tokens", "n_test_tokens"):
            if getattr(self, name) is not None:
                check_integer(name, getattr(self, name), at_least=1)

    @property
    def symbol(self) -> str:
        """What is scored: a byte, a char or a word."""
        raise NotImplementedError

    def corpus(self) -> Corpus:
        """The text, read once per process."""
        raise NotImplementedError

    @property
    def inputs(self) -> Tokens:
        """The symbols of the text."""
        return Tokens(self.n_outputs)

    @property
    def n_outputs(self) -> int:
        """The next token."""
        return self.corpus().n_symbols

    def size(self, split: Split) -> int | None:
        """Windows of a split; train has one for every index."""
        if split == "train":
            return None
        return -(-self.n_scored(split) // self.length)

    def n_scored(self, split: Split) -> int:
        """Tokens of val or test that are scored."""
        asked = self.n_val_tokens if split == "val" else self.n_test_tokens
        n_tokens = self.corpus().n_tokens(split)
        if asked is not None and asked > n_tokens:
            raise ValueError(
                f"n_{split}_tokens must be at most the {n_tokens} tokens of {split}, not {asked}"
            )
        return n_tokens if asked is None else asked

    def examples(self, split: Split, seed: int, indices: Tensor) -> Batch:
        """The windows `indices` (B,) of a split."""
        corpus = self.corpus()
        check_indices(indices, self.size(split))
        starts = self._starts(seed, indices) if split == "train" else indices * self.length
        windows = corpus.windows(split, starts, self.length)  # (B, T+1)
        inputs, labels = windows[:, :-1].contiguous(), windows[:, 1:].clone()
        if split != "train":
            places = starts[:, None] + torch.arange(self.length)  # (B, T)
            labels[places >= self.n_scored(split)] = UNSCORED
        return Batch(inputs=inputs, targets=labels)

    def _starts(self, seed: int, indices: Tensor) -> Tensor:
        """Where training windows start (B,): each a function of (seed, index) alone."""
        n_tokens, name = self.corpus().n_tokens("train"), type(self).__name__
        if self.length > n_tokens:
            raise ValueError(
                f"length must be at most the {n_tokens} tokens of train, not {self.length}"
            )
        drawn = [
            torch.randint(n_tokens - self.length + 1, (), generator=generator(name, seed, index))
            for index in indices.tolist()
        ]
        return torch.stack(drawn)

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """Bits per symbol, or perplexity per word and bits per byte."""
        corpus, n_tokens = self.corpus(), self.n_scored("test")
        uniform, unigram = n_tokens * math.log(self.n_outputs), corpus.unigram_nats(n_tokens)
        rule = "how often each symbol occurs in train"

        def bits(unit: str, count: float) -> Metric:
            per_nat = 1 / (math.log(2) * count)
            return Metric(
                f"bits_per_{unit}",
                f"bits/{unit}",
                higher_is_better=False,
                chance=uniform * per_nat,
                baseline=unigram * per_nat,
                baseline_rule=rule,
            )

        if corpus.words is None:
            return (bits(self.symbol, n_tokens),)
        counts = corpus.counts("test", n_tokens)
        n_words = float(counts @ corpus.words.numpy())
        words = Metric(
            "perplexity",
            "",
            higher_is_better=False,
            chance=perplexity([uniform], n_words),
            baseline=perplexity([unigram], n_words),
            baseline_rule=rule,
            finish=perplexity,
        )
        if corpus.bytes is None:
            return (words,)
        return (words, bits("byte", float(counts @ corpus.bytes.numpy())))

    def loss(self, outputs: Tensor, targets: Tensor) -> Count:
        """Cross-entropy in nats per token."""
        return cross_entropy(outputs, targets)

    def score(self, outputs: Tensor, targets: Tensor) -> dict[str, Count]:
        """Bits over symbols, or nats over words and bits over bytes."""
        corpus = self.corpus()
        nats, count = cross_entropy(outputs, targets)
        bits = nats / math.log(2)
        if corpus.words is None:
            return {f"bits_per_{self.symbol}": Count(bits, count)}
        scored = targets[targets != UNSCORED]
        found = {"perplexity": Count(nats, corpus.words.to(scored.device)[scored].sum())}
        if corpus.bytes is not None:
            n_bytes = corpus.bytes.to(scored.device)[scored].sum()
            found["bits_per_byte"] = Count(bits, n_bytes)
        return found

    def fingerprint(self) -> str:
        """The hash of the text and, where they are learned, of the symbols."""
        return self.corpus().sha256


@dataclass(frozen=True, kw_only=True)
class WordModelling(LanguageModelling):
    """Scored by perplexity per word, whether the tokens are words or pieces of words.

    A piece's nats count for its word: the perplexity is the exponential of the nats of all tokens
    over the number of words, line ends included, and compares with that of words. (A model of
    pieces is charged for one way to spell each word, so that it is never flattered.) Bits per byte
    are of the text as it lies in the file, its spaces and line ends included.

    Embedding and head have V rows each, far more than the body where V is large: compare bodies by
    `params_of: body`. Outputs take 4 V bytes of every token of a batch.
    """

    bpe: int | None = None  # symbols of a vocabulary of pieces, learned on train; None: words

    def __post_init__(self) -> None:
        """Refuse fields that name no task."""
        super().__post_init__()
        if self.bpe is not None:
            check_integer("bpe", self.bpe, at_least=MIN_PIECES)

    @property
    def symbol(self) -> str:
        """Words."""
        return "word"
