"""Bodies whose memory is known, as another package's: what they take is only reserved."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.packages import install

SOURCE = '''
"""Bodies that take memory in proportion to T or to its square, whatever the batch."""

import torch
from torch import Tensor, nn

from architectures.body import Body, State


class Hungry(Body):
    """Takes bytes_per_token * T**power bytes on its way forward, and gives them back."""

    causal = True

    def __init__(self, width: int, *, bytes_per_token: int = 1024, power: int = 1) -> None:
        super().__init__(width)
        self.scale = nn.Parameter(torch.ones(width))
        self.bytes_per_token, self.power = bytes_per_token, power

    def forward(
        self, x: Tensor, state: State = None, *, lengths: Tensor | None = None
    ) -> tuple[Tensor, State]:
        taken = torch.empty(self.bytes_per_token * x.shape[1] ** self.power, dtype=torch.uint8)
        y = x * self.scale
        del taken
        return y, torch.zeros(len(x), 1)


class Broken(Hungry):
    """Raises beyond 100 tokens."""

    def forward(
        self, x: Tensor, state: State = None, *, lengths: Tensor | None = None
    ) -> tuple[Tensor, State]:
        if x.shape[1] > 100:
            raise ArithmeticError("no more than a hundred")
        return super().forward(x, state, lengths=lengths)


class Sleepy(Hungry):
    """Takes longer than anybody waits beyond 100 tokens."""

    def forward(
        self, x: Tensor, state: State = None, *, lengths: Tensor | None = None
    ) -> tuple[Tensor, State]:
        import time

        time.sleep(600 if x.shape[1] > 100 else 0)
        return super().forward(x, state, lengths=lengths)
'''


@contextmanager
def installed(folder: Path) -> Iterator[None]:
    """Let the bodies be found, here and in processes that are started from here."""
    from bench import plugins

    names = {"hungry": "hungry:Hungry", "broken": "hungry:Broken", "sleepy": "hungry:Sleepy"}
    install(folder, "hungry", {"hungry.py": SOURCE}, {"seqbench.architectures": names})
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(folder))
        plugins.outside.cache_clear()
        yield
    plugins.outside.cache_clear()
