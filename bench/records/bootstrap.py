"""The interval of a mean over seeds: percentile bootstrap, the same for the same values.

In numpy, because the terminal's table uses it and importing scipy takes longer than that table may;
a test holds it against `scipy.stats.bootstrap`. With few values the interval is narrow: that of
three seeds is their range.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

N_RESAMPLES = 2000
CONFIDENCE = 0.95
N_AT_ONCE = 32_000  # resampled values at a time: they stay in the processor's cache

Floats = npt.NDArray[np.float64]


def interval(values: Floats) -> tuple[Floats, Floats]:
    """The ends of the interval of each line's mean; values (groups, seeds), seeds at least 2.

    All groups share their resamples, so that a group's interval depends on its own values only.
    """
    n_groups, n_seeds = values.shape
    picks = np.random.default_rng(0).integers(0, n_seeds, (N_RESAMPLES, n_seeds))
    weights = np.stack([(picks == seed).mean(axis=1) for seed in range(n_seeds)])
    tail = 100 * (1 - CONFIDENCE) / 2
    low, high = np.empty(n_groups), np.empty(n_groups)
    step = max(1, N_AT_ONCE // N_RESAMPLES)
    for start in range(0, n_groups, step):
        part = slice(start, start + step)
        means = np.zeros((len(values[part]), N_RESAMPLES))
        product = np.empty_like(means)
        for seed in range(n_seeds):  # not `@`, whose last bit depends on the number of groups
            means += np.multiply(values[part, seed, None], weights[seed], out=product)
        low[part], high[part] = np.percentile(means, [tail, 100 - tail], axis=1)
    # Rounding must not put the ends outside of the values.
    return np.maximum(low, values.min(axis=1)), np.minimum(high, values.max(axis=1))
