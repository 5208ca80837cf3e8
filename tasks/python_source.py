"""Windows of Python source: what the tasks that read the standard library have in common.

The text is that of the running Python, whole files held out, see tasks/data/standard_library.py.
Training windows start anywhere, drawn anew for every index; those of val and test follow one
another over the first n bytes, so that the same bytes are scored at every length.

T length, n the evaluated bytes, B windows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from tasks.task import Kind, Split, Task, Tokens, check_integer, generator


@dataclass(frozen=True, kw_only=True)
class PythonSource(Task):
    """Reads bytes of Python source in windows; subclasses say what is answered at every byte."""

    kind: ClassVar[Kind] = "per_step"
    data_sets: ClassVar[tuple[str, ...]] = ("standard_library",)
    name: ClassVar[str]
    """As in the registry: the windows of training are drawn by it."""

    length: int = 256  # bytes
    n_eval_bytes: int = 65536  # scored bytes of val, and of test; at least the length

    def __post_init__(self) -> None:
        """Refuse fields that name no task."""
        super().__post_init__()
        check_integer("n_eval_bytes", self.n_eval_bytes, at_least=1)
        if self.length > self.n_eval_bytes:
            raise ValueError(
                f"length must be at most n_eval_bytes = {self.n_eval_bytes}, not {self.length}"
            )

    @property
    def inputs(self) -> Tokens:
        """Bytes."""
        return Tokens(256)

    def size(self, split: Split) -> int | None:
        """Windows of a split; train has one for every index."""
        if split == "train":
            return None
        return -(-self.n_eval_bytes // self.length)

    def asked_bytes(self, split: Split) -> tuple[str, int]:
        """The field that says how many bytes a split has to have, and its value."""
        field = "length" if split == "train" else "n_eval_bytes"
        return field, getattr(self, field)

    def drawn_starts(self, seed: int, indices: Tensor, n_starts: int) -> Tensor:
        """Where training windows start (B,): each a function of (seed, index) alone."""
        drawn = [
            torch.randint(n_starts, (), generator=generator(self.name, seed, index))
            for index in indices.tolist()
        ]
        return torch.stack(drawn)
