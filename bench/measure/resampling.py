"""Bootstrap intervals of what is computed from blocks of measurements.

Blocks are resampled and not single values: values of one block were taken one after another and are
alike. Efron and Tibshirani 1993, chapter 8.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

N_RESAMPLES = 1000
CONFIDENCE = 0.95
N_AT_ONCE = 1_000_000  # resampled values in memory at a time


def picks(n_blocks: int, seed: int = 0) -> npt.NDArray[np.int64]:
    """Which blocks each resample takes, (N_RESAMPLES, n_blocks); the same each time."""
    return np.random.default_rng(seed).integers(0, n_blocks, (N_RESAMPLES, n_blocks))


def resampled_medians(blocks: Floats, seed: int = 0) -> Floats:
    """The median of all values of each resample of blocks (n_blocks, values), (N_RESAMPLES,)."""
    chosen = picks(len(blocks), seed)
    step = max(1, N_AT_ONCE // blocks.size)
    parts = [
        np.median(blocks[chosen[start : start + step]], axis=(1, 2))
        for start in range(0, N_RESAMPLES, step)
    ]
    return np.concatenate(parts)


def interval(resampled: Floats) -> tuple[float, float]:
    """The ends of the percentile interval."""
    tail = 100 * (1 - CONFIDENCE) / 2
    low, high = np.percentile(resampled, [tail, 100 - tail])
    return float(low), float(high)
