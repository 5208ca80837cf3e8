"""The process group in which the ranks of a run meet, and which ends before they do."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import torch
from torch import distributed

from bench.spec import ResourceSpec

PATIENCE_S = 60.0
"""How much longer a rank waits for another than that one may hang: the one that hangs says why."""


def on_cuda(resources: ResourceSpec) -> bool:
    """Whether a run trains on CUDA devices."""
    asked = resources.accelerator
    return asked == "cuda" or (asked == "auto" and torch.cuda.is_available())


@contextmanager
def process_group(resources: ResourceSpec) -> Iterator[None]:
    """Meet the other ranks where RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT say, then part.

    Lightning takes a group that is there already, and would never destroy its own.
    """
    if resources.devices * resources.nodes == 1:
        yield
        return
    cuda = on_cuda(resources)
    if cuda:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    distributed.init_process_group(
        "nccl" if cuda else "gloo", timeout=timedelta(seconds=resources.hang_s + PATIENCE_S)
    )
    try:
        yield
    finally:
        distributed.destroy_process_group()
