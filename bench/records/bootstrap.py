"""The interval of a mean over seeds: percentile bootstrap, widened for how few the seeds are.

A bootstrap knows no values but those it is given, so that of three seeds it is their range, which
holds the mean of further seeds in 75% of cases and not in 95%; of two seeds, in half of them. Its
ends are therefore moved away from the mean by

    t(n - 1) / z * sqrt(n / (n - 1))        Student's over the normal quantile, n seeds

as Hesterberg 2015, https://arxiv.org/abs/1411.5279, does for a t interval: n - 1 in the variance,
and a quantile that allows for a variance that is itself estimated. Many seeds: a factor of 1.

In numpy, because the terminal's table uses it and importing scipy takes longer than that table may;
tests hold both parts against scipy. What two or three seeds say is little, and so it is wide.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

N_RESAMPLES = 2000
CONFIDENCE = 0.95
N_AT_ONCE = 32_000  # resampled values at a time: they stay in the processor's cache
Z95 = 1.959964  # half a 95% interval in standard errors
STUDENT95 = (12.706205, 4.302653, 3.182446, 2.776445, 2.570582, 2.446912)
"""The same where the variance has 1, 2, ... degrees of freedom."""

Floats = npt.NDArray[np.float64]


def student(freedom: int) -> float:
    """Half a 95% interval in estimated standard errors: Student's quantile.

    Of more degrees of freedom than STUDENT95 has, by Cornish and Fisher: Abramowitz and Stegun
    26.7.5, right to a thousandth.
    """
    if freedom <= len(STUDENT95):
        return STUDENT95[freedom - 1]
    z = Z95
    return float(
        z
        + (z**3 + z) / (4 * freedom)
        + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * freedom**2)
        + (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * freedom**3)
    )


def stretch(n_seeds: int, n_cells: int = 1) -> float:
    """How much wider than a bootstrap's an interval is that holds as often as it says.

    Of a mean over cells whose seeds are drawn anew within each: their variances are estimated
    together, so that the quantile allows for less.
    """
    bias = math.sqrt(n_seeds / (n_seeds - 1))
    return student(n_cells * (n_seeds - 1)) / Z95 * bias


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
    # Rounding must not put the ends outside of the values, nor on one side of their mean.
    low = np.maximum(low, values.min(axis=1))
    high = np.minimum(high, values.max(axis=1))
    mean = np.clip(values.mean(axis=1), low, high)
    factor = stretch(n_seeds)
    return mean + factor * (low - mean), mean + factor * (high - mean)
