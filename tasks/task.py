"""The contract of a task: what is read, what is to be answered, and how answers are scored.

B batch, T time, C channels, K outputs, S symbols of an answer.
"""

from __future__ import annotations

import hashlib
import math
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import ClassVar, Literal, NamedTuple, TypeAlias, get_args

import torch
from torch import Tensor

Split: TypeAlias = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = get_args(Split)
Kind: TypeAlias = Literal["per_step", "per_sequence", "pair", "seq2seq"]
"""What is answered: every token, the whole sequence, two sequences together, or by a sequence."""

UNSCORED = -100
"""The label of positions that neither loss nor metrics count."""


class MissingPackageError(ImportError):
    """A task's data comes from a package that is not installed."""


@dataclass(frozen=True)
class Tokens:
    """Inputs (B, T) are symbols 0..vocabulary-1."""

    vocabulary: int


@dataclass(frozen=True)
class Reals:
    """Inputs (B, T, C) are real numbers."""

    channels: int


@dataclass
class Batch:
    """Examples side by side. Not frozen: Lightning sets fields when it changes their precision.

    Per step, targets are (B, T) int64, or (B, T, K) float32 with nan where unscored; per sequence
    and of a pair (B,) int64, or (B, K) float32; of a sequence (B, S) int64, UNSCORED after its end.
    """

    inputs: Tensor  # (B, T) int64 or (B, T, C) float32; of a pair (B, 2, T) or (B, 2, T, C)
    targets: Tensor
    lengths: Tensor | None = None  # (B,), of a pair (B, 2): real tokens of a row; None: all

    def __len__(self) -> int:
        return len(self.inputs)

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> Batch:
        """Copy to a device."""
        lengths = self.lengths
        return Batch(
            inputs=self.inputs.to(device, non_blocking=non_blocking),
            targets=self.targets.to(device, non_blocking=non_blocking),
            lengths=None if lengths is None else lengths.to(device, non_blocking=non_blocking),
        )

    def cast(self, dtype: torch.dtype) -> Batch:
        """The same with its real numbers, if it has any, in another precision."""
        inputs, targets = (
            x.to(dtype) if x.is_floating_point() else x for x in (self.inputs, self.targets)
        )
        return Batch(inputs=inputs, targets=targets, lengths=self.lengths)


class Count(NamedTuple):
    """A metric before division: its sum over what was counted, and how many were counted.

    The count is a float32 scalar, and so is the sum, or a vector where the metric is made of
    several sums. Counts of batches and devices are added (in double precision where there are
    many); the division is done once, at the end.
    """

    sum: Tensor
    count: Tensor  # type: ignore[assignment]  # hides tuple.count, which nobody needs


def mean(sums: Sequence[float], count: float) -> float:
    """The only sum, divided by the count; nan if nothing was counted."""
    return sums[0] / count if count else math.nan


@dataclass(frozen=True)
class Metric:
    """What a number means, and how it comes from sums over all examples."""

    name: str
    unit: str
    higher_is_better: bool
    chance: float  # the score of the best answer that ignores the input, or of blind guessing
    baseline: float | None = None  # the score of a trivial rule that reads a part of the input
    baseline_rule: str = ""  # that rule
    finish: Callable[[Sequence[float], float], float] = mean  # from the sums and the count


@dataclass(frozen=True, kw_only=True)
class Task:
    """A task; its fields are its difficulty. The docstring's first line is shown by `bench list`.

    Fields are hashable (tasks are keys of caches) and checked on construction. Making a task
    loads nothing: data is read when examples, sizes or the fingerprint are asked for.
    """

    kind: ClassVar[Kind]
    causal_only: ClassVar[bool] = False
    """True where the labels are later inputs, so that a body that looks ahead would read them."""
    pool: ClassVar[Literal["last", "mean"]] = "last"
    """Per sequence and of a pair: the output that the head reads, of the last token or the mean."""
    contiguous: ClassVar[bool] = False
    """True where example i + 1 of val and test goes on where example i ends, as in one long text:
    then it is tested a second time with the state carried from one to the next."""

    length: int  # tokens

    def __post_init__(self) -> None:
        """Refuse fields that name no task."""
        check_integer("length", self.length, at_least=1)

    @property
    def data_sets(self) -> tuple[str, ...]:
        """The data sets that are read, by their names in tasks/data/sets.py.

        Subclasses that always read the same write `data_sets: ClassVar[tuple[str, ...]] = (...)`.
        """
        return ()

    @property
    def inputs(self) -> Tokens | Reals:
        """What a token is."""
        raise NotImplementedError

    @property
    def n_outputs(self) -> int:
        """K: classes, or predicted values."""
        raise NotImplementedError

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """What is scored; the first one selects (on val) and ranks (on test)."""
        raise NotImplementedError

    @property
    def tokens(self) -> int:
        """The tokens that a model reads for one example."""
        return 2 * self.length if self.kind == "pair" else self.length

    @property
    def end_symbol(self) -> int | None:
        """Answers by a sequence: the output that ends one; None: all have S symbols."""
        return None

    def size(self, split: Split) -> int | None:
        """Examples of a split; None: endless."""
        raise NotImplementedError

    def examples(self, split: Split, seed: int, indices: Tensor) -> Batch:
        """The examples `indices` (B,) of a split: each a function of (seed, split, index) alone."""
        raise NotImplementedError

    def loss(self, outputs: Tensor, targets: Tensor) -> Count:
        """What training minimises, from outputs (B, T, K), (B, S, K) or (B, K); differentiable."""
        raise NotImplementedError

    def score(self, outputs: Tensor, targets: Tensor) -> Mapping[str, Count]:
        """The metrics by name, from outputs (B, T, K) or (B, K); of a sequence, given its past."""
        raise NotImplementedError

    def score_written(self, written: Tensor, batch: Batch) -> Mapping[str, Count]:
        """More metrics by name, from what the model wrote by itself (B, S), symbol after symbol.

        Symbols after the first end symbol are UNSCORED. Only for answers by a sequence.
        """
        return {}

    def fingerprint(self) -> str:
        """A hash of the data, or of the generator's name and version: equal means equal bytes."""
        raise NotImplementedError

    def options(self) -> dict[str, object]:
        """The fields other than the length, as they are."""
        return {f.name: getattr(self, f.name) for f in fields(self) if f.name != "length"}


@dataclass(frozen=True, kw_only=True)
class GeneratedTask(Task):
    """A task whose examples are drawn: subclasses write `sample`.

    Examples are drawn in blocks, which is many times faster than one by one; a block is a
    function of (seed, split, number). Readers of neighbouring indices, in any order, draw each
    block once; indices strewn over an endless split draw a block for every example.
    """

    version: ClassVar[int] = 1
    """Raised whenever the same (seed, split, index) would give another example."""

    n_train: int | None = None  # examples; None: endless
    n_val: int = 512
    n_test: int = 1024

    def __post_init__(self) -> None:
        """Refuse fields that name no task."""
        super().__post_init__()
        if self.n_train is not None:
            check_integer("n_train", self.n_train, at_least=1)
        check_integer("n_val", self.n_val, at_least=1)
        check_integer("n_test", self.n_test, at_least=1)

    def sample(self, rng: torch.Generator, batch_size: int) -> Batch:
        """Draw examples."""
        raise NotImplementedError

    def size(self, split: Split) -> int | None:
        """Examples of a split; None: endless."""
        return {"train": self.n_train, "val": self.n_val, "test": self.n_test}[split]

    def examples(self, split: Split, seed: int, indices: Tensor) -> Batch:
        """The examples `indices` (B,), from the blocks that hold them."""
        check_indices(indices, self.size(split))
        block_size = max(1, min(BLOCK_EXAMPLES, BLOCK_TOKENS // self.length))
        numbers = indices // block_size
        drawn = {n: _BLOCKS.get(self, split, seed, n, block_size) for n in set(numbers.tolist())}
        places = zip(numbers.tolist(), (indices % block_size).tolist(), strict=True)
        rows = [(drawn[number], place) for number, place in places]
        lengths = [block.lengths[place] for block, place in rows if block.lengths is not None]
        return Batch(
            inputs=torch.stack([block.inputs[place] for block, place in rows]),
            targets=torch.stack([block.targets[place] for block, place in rows]),
            lengths=torch.stack(lengths) if lengths else None,
        )

    def fingerprint(self) -> str:
        """The generator's name and version."""
        return f"{type(self).__name__}-v{self.version}"


BLOCK_EXAMPLES = 32
BLOCK_TOKENS = 2**19  # long examples come in smaller blocks: one token takes up to 16 bytes
CACHE_BYTES = 2**28


class _BlockCache:
    """The blocks drawn last, up to CACHE_BYTES of them: batches seldom fall on whole blocks."""

    def __init__(self) -> None:
        self._blocks: OrderedDict[tuple[object, ...], Batch] = OrderedDict()
        self._bytes = 0

    def get(self, task: GeneratedTask, split: Split, seed: int, number: int, size: int) -> Batch:
        """Return the block, drawn now if it is not at hand."""
        key = (task, split, seed, number)
        block = self._blocks.pop(key, None)
        if block is None:
            block = task.sample(generator(task.fingerprint(), seed, split, number), size)
            self._bytes += _bytes(block)
        self._blocks[key] = block
        while self._bytes > CACHE_BYTES and len(self._blocks) > 1:
            self._bytes -= _bytes(self._blocks.popitem(last=False)[1])
        return block


_BLOCKS = _BlockCache()


def _bytes(batch: Batch) -> int:
    tensors = (batch.inputs, batch.targets, batch.lengths)
    return sum(tensor.nbytes for tensor in tensors if tensor is not None)


def generator(*parts: object) -> torch.Generator:
    """A generator seeded by a hash of `parts`, so that neighbouring seeds share nothing."""
    digest = hashlib.sha256(repr(parts).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:7], "little"))


def check_integer(name: str, value: object, *, at_least: int) -> None:
    """Raise unless a field is an integer of at least `at_least`."""
    if not isinstance(value, int) or isinstance(value, bool) or value < at_least:
        raise ValueError(f"{name} must be an integer of at least {at_least}, not {value!r}")


def check_indices(indices: Tensor, size: int | None) -> None:
    """Raise unless every index is that of an example."""
    if len(indices) == 0:
        raise IndexError("no indices were given")
    low, high = int(indices.min()), int(indices.max())
    if low < 0 or (size is not None and high >= size):
        last = "" if size is None else f"..{size - 1}"
        raise IndexError(f"indices {low}..{high} go beyond the examples 0{last}")
