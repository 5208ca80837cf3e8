"""Selective copying: keep the data tokens, forget the noise between them, repeat them in order.

Gu and Dao 2023 (Mamba), https://arxiv.org/abs/2312.00752, section 3.1 and appendix E.1: vocabulary
16, 16 data tokens, length 4096; no generator was published. The layout is that of MAD, Poli et al.
2024, https://arxiv.org/abs/2403.17844 (athms/mad-lab mad/data/instances.py): data among blanks, a
copy token, then as many blanks as there are answers; `length` counts all of it.

Where it differs from MAD: the data's places are a uniform subset (as in `variable` copying of
state-spaces/s4), so the last data token may be followed by blanks. MAD drops each blank into one
of the gaps in front of the data tokens, so its gaps are nearly equal and the last token always
touches the copy token. Outputs are the data symbols alone, without blank and copy.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from tasks.scoring import Classification
from tasks.task import UNSCORED, Batch, GeneratedTask, Kind, Tokens, check_integer


@dataclass(frozen=True, kw_only=True)
class SelectiveCopy(Classification, GeneratedTask):
    """Data tokens strewn among blanks, to be repeated in order at the end.

    3 _ _ 7 _ > _ _ -> 3 7 at the last two steps, unscored before: `>` is the copy token and `_`
    a blank. Chance is 1/14 at 16 symbols, of which 14 are data.
    """

    kind: ClassVar[Kind] = "per_step"

    length: int = 256  # tokens: data, blanks, the copy token and the n_data steps of the answer
    n_data: int = 16  # tokens to copy
    vocabulary: int = 16  # symbols: data 0..V-3, blank V-2, copy V-1

    def __post_init__(self) -> None:
        """Refuse fields that name no task."""
        super().__post_init__()
        check_integer("n_data", self.n_data, at_least=1)
        check_integer("vocabulary", self.vocabulary, at_least=4)
        if self.length < 2 * self.n_data + 1:
            raise ValueError(
                f"length must be at least 2 * n_data + 1 = {2 * self.n_data + 1}, "
                f"not {self.length}: the data, the copy token and the answer must fit"
            )

    @property
    def inputs(self) -> Tokens:
        """Data, blank and copy symbols."""
        return Tokens(self.vocabulary)

    @property
    def n_outputs(self) -> int:
        """The data symbols."""
        return self.vocabulary - 2

    def sample(self, rng: torch.Generator, batch_size: int) -> Batch:
        """Draw inputs (B, T) and labels (B, T), scored at the last n_data steps."""
        context = self.length - self.n_data - 1
        data = torch.randint(self.n_outputs, (batch_size, self.n_data), generator=rng)
        ranks = torch.rand(batch_size, context, generator=rng, dtype=torch.float32)
        places = ranks.topk(self.n_data, dim=1).indices.sort(dim=1).values  # (B, n_data)
        inputs = torch.full((batch_size, self.length), self.vocabulary - 2)
        inputs.scatter_(1, places, data)
        inputs[:, context] = self.vocabulary - 1
        labels = torch.full((batch_size, self.length), UNSCORED)
        labels[:, -self.n_data :] = data
        return Batch(inputs=inputs, targets=labels)
