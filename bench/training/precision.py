"""What a run's `training.precision` means for tensors, as Lightning has it.

`true`: the model itself is of that dtype. `mixed`: it is of float32, and autocast lowers products.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch

from bench.spec import Precision

WHOLE = {"32-true": torch.float32, "64-true": torch.float64, "bf16-true": torch.bfloat16}
MIXED = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}


def whole_dtype(precision: Precision) -> torch.dtype:
    """The dtype of parameters and inputs."""
    return WHOLE.get(precision, torch.float32)


def lowering(precision: Precision, device: torch.device) -> AbstractContextManager[Any]:
    """Autocast, where the precision is mixed."""
    dtype = MIXED.get(precision)
    return nullcontext() if dtype is None else torch.autocast(device.type, dtype=dtype)
