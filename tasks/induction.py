"""Induction heads: what came after the trigger the last time.

Olsson et al. 2022, https://arxiv.org/abs/2209.11895; Fu et al. 2023 (H3),
https://arxiv.org/abs/2212.14052, section 3.1 and HazyResearch/safari src/dataloaders/synthetics.py:
of its `input_seq_len` 30, `length` is 31. Gu and Dao 2023 (Mamba),
https://arxiv.org/abs/2312.00752, section 3.1 train at length 256 on 16 symbols and test at 64 to
1,048,576.

Where it differs from safari: only the answer is trained on, where safari trains on every next
token, which but for the answer is noise; and its unused "." symbol is left out, so that its 20
symbols are 19 here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from tasks.scoring import Classification
from tasks.task import Batch, GeneratedTask, Kind, Tokens, check_integer


@dataclass(frozen=True, kw_only=True)
class Induction(Classification, GeneratedTask):
    """The token that followed a trigger, asked by the trigger again.

    2 9 > 4 7 1 5 > -> 4: the trigger `>` stands at a random place and at the end. It is the last
    symbol of the vocabulary. Chance is one of the others, 1/15.
    """

    kind: ClassVar[Kind] = "per_sequence"

    length: int = 256  # tokens, both triggers among them
    vocabulary: int = 16  # symbols

    def __post_init__(self) -> None:
        """Refuse fields that name no task."""
        super().__post_init__()
        check_integer("length", self.length, at_least=4)
        check_integer("vocabulary", self.vocabulary, at_least=3)

    @property
    def inputs(self) -> Tokens:
        """Symbols and the trigger."""
        return Tokens(self.vocabulary)

    @property
    def n_outputs(self) -> int:
        """All symbols but the trigger."""
        return self.vocabulary - 1

    def sample(self, rng: torch.Generator, batch_size: int) -> Batch:
        """Draw inputs (B, T) and answers (B,)."""
        inputs = torch.randint(self.n_outputs, (batch_size, self.length), generator=rng)
        # As published, a random token stands between the answer and the second trigger.
        places = torch.randint(self.length - 3, (batch_size, 1), generator=rng)
        inputs.scatter_(1, places, self.vocabulary - 1)
        inputs[:, -1] = self.vocabulary - 1
        return Batch(inputs=inputs, targets=inputs.gather(1, places + 1).squeeze(1))
