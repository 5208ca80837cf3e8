"""Whether a decoder of transformers is a body: tried once, small, before anyone trains it.

The library does not say which of its models carry on from their caches, or read ahead.

B batch, T time, D width.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from architectures.body import State
from architectures.layers.hf_memory import Memory

N_ROWS, LENGTH = 2, 13
CHUNKS = (1, 1, 6, 1, 4)  # begins with single tokens, and carries on with several
NOISE = 0.1  # the library begins with weights so small that a layer hardly matters
# Rounding of float32 over a few layers is 1e-6 to 1e-5 of the largest value, and a broken cache
# changes a tenth of it.
BOUND = 1e-3


def fault(model: Any, memory: Memory, width: int, max_length: int | None = None) -> str:
    """What keeps a model from being a body, or nothing. It is left with other weights."""
    generator = torch.Generator().manual_seed(0)
    length = min(LENGTH, max_length or LENGTH)
    cut = length // 2 + 1
    model.eval()
    with torch.no_grad(), torch.autocast("cpu", enabled=False):
        for parameter in model.parameters():
            parameter += NOISE * torch.randn(parameter.shape, generator=generator)
        x = torch.randn(N_ROWS, length, width, generator=generator)
        y, _ = memory.read(model, x, None)
        if y.shape != x.shape:
            return f"its output is of shape {tuple(y.shape)}, where {tuple(x.shape)} went in"
        if not y.isfinite().all():
            return "its outputs are not finite"
        if differ(memory.read(model, x[:1], None)[0], y[:1]):
            return "the rows of a batch mix"
        other = torch.cat([x[:, :cut], -x[:, cut:]], dim=1)
        if differ(memory.read(model, other, None)[0][:, :cut], y[:, :cut]):
            return "its outputs depend on later inputs"
        if differ(in_chunks(model, memory, x), y):
            return "carrying on from its cache gives other outputs than one piece"
    return ""


def in_chunks(model: Any, memory: Memory, x: Tensor) -> Tensor:
    """Read x (B, T, D) in chunks, each from the state that the one before has left."""
    layers: State = None
    outputs = []
    for chunk in x.split(CHUNKS if x.shape[1] == LENGTH else 1, dim=1):
        y, layers = memory.read(model, chunk, layers)
        outputs.append(y)
    return torch.cat(outputs, dim=1)


def differ(actual: Tensor, expected: Tensor) -> bool:
    """Whether two outputs differ by more than rounding; NaN differs."""
    error = (actual - expected).abs().max() / expected.abs().max()
    return not bool(error <= BOUND)
