"""Is one architecture better than another? Over tasks, lengths and seeds, in pairs.

A pair is two runs of the same task, length and seed; its difference is that of the normalised
scores (`bench.report.aggregate`). Every cell weighs the same.

Effect      the mean difference, and the probability that the first is better: the share of pairs in
            which it is, ties counting half (Agarwal et al. 2021, section 4.3, in pairs)
Interval    95%, bootstrap of the pairs within each cell
p           of no difference, two-sided: had the two names been swapped at random in each pair, how
            often would the mean difference be as large? All 2^n ways where they are few, otherwise
            N_SWAPS drawn at random
Correction  Holm 1979, https://www.jstor.org/stable/4615733, over all pairs of architectures that
            are compared together

All of it is about these tasks and lengths: what is at random is the seed. Two pairs have p = 0.5 at
the least, so that few seeds give no evidence, whatever the difference.

N pairs of runs, A pairs of architectures.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np

from bench.report.aggregate import Floats, Sample, interval, resampled

N_SWAPS = 10_000
SIGNIFICANCE = 0.05
N_AT_ONCE = 4_000_000  # signs in memory at a time
ROUNDING = 1e-12  # of a mean difference: sums in another order are no larger one


@dataclass(frozen=True, kw_only=True)
class Pair:
    """What the scores say of two architectures."""

    first: str
    second: str
    n_cells: int = 0
    n_runs: int = 0  # pairs of runs
    difference: float | None = None  # positive: the first is better
    low: float | None = None  # 95% interval; None where a cell has one seed
    high: float | None = None
    probability: float | None = None  # that the first is better
    p: float | None = None
    p_corrected: float | None = None
    refused: str = ""  # why nothing can be said

    @property
    def verdict(self) -> str:
        """`lstm is better`, or that there is no evidence of a difference."""
        if self.refused or self.difference is None or self.p_corrected is None:
            return f"refused: {self.refused}"
        if self.p_corrected >= SIGNIFICANCE:
            return "no evidence of a difference"
        return f"{self.first if self.difference > 0 else self.second} is better"

    def seen_from(self, name: str) -> Pair:
        """The same with `name` as the first."""
        if name == self.first:
            return self
        return replace(
            self,
            first=self.second,
            second=self.first,
            difference=None if self.difference is None else -self.difference,
            low=None if self.high is None else -self.high,
            high=None if self.low is None else -self.low,
            probability=None if self.probability is None else 1 - self.probability,
        )


def pairs(samples: Sequence[Sample]) -> list[Pair]:
    """Every two of the architectures, with p corrected for how many pairs there are."""
    found: dict[tuple[str, str], Pair] = {}
    alike: dict[tuple[bytes, bytes], list[tuple[Sample, Sample]]] = {}
    for first, second in combinations(samples, 2):
        names = (first.architecture, second.architecture)
        reason = _why_not(first, second)
        found[names] = Pair(first=names[0], second=names[1], refused=reason)
        if not reason:
            alike.setdefault((first.cell.tobytes(), first.seed.tobytes()), []).append(
                (first, second)
            )
    for group in alike.values():
        found |= {(one.first, one.second): one for one in _compared(group)}
    return _corrected(list(found.values()))


def holm(p_values: Sequence[float]) -> list[float]:
    """P values corrected for their number: the chance of any false one among them stays p."""
    order = np.argsort(p_values, kind="stable")
    factors = np.arange(len(p_values), 0, -1)
    corrected = np.empty(len(p_values))
    scaled = np.asarray(p_values, dtype=float)[order] * factors
    corrected[order] = np.minimum(np.maximum.accumulate(scaled), 1.0)
    return [float(value) for value in corrected]


def _why_not(first: Sample, second: Sample) -> str:
    for one in (first, second):
        if one.refused:
            return f"{one.architecture}: {one.refused}"
    if not len(first.values):
        return "no runs"
    same = np.array_equal(first.cell, second.cell) and np.array_equal(first.seed, second.seed)
    return "" if same else "they were not trained with the same seeds"


def _compared(group: Sequence[tuple[Sample, Sample]]) -> Iterator[Pair]:
    """The pairs of architectures that share cells and seeds."""
    cell, weights = group[0][0].cell, group[0][0].weights
    gaps = np.stack([first.values - second.values for first, second in group], axis=1)  # (N, A)
    weighted = weights[:, None] * gaps
    means = weighted.sum(axis=0)
    better = weights @ ((gaps > 0) + 0.5 * (gaps == 0))
    p_values = _p_values(weighted)
    ends: list[tuple[float | None, float | None]] = [(None, None)] * len(group)
    if np.bincount(cell).min() >= 2:
        drawn = np.concatenate([counts @ weighted for counts in resampled(cell)])  # (R, A)
        ends = [interval(drawn[:, place]) for place in range(len(group))]
    for place, (first, second) in enumerate(group):
        yield Pair(
            first=first.architecture,
            second=second.architecture,
            n_cells=first.n_cells,
            n_runs=len(gaps),
            difference=float(means[place]),
            low=ends[place][0],
            high=ends[place][1],
            probability=float(better[place]),
            p=float(p_values[place]),
        )


def _p_values(weighted: Floats) -> Floats:
    """Of each column of weighted differences (N, A): (A,)."""
    observed = np.abs(weighted.sum(axis=0))
    scale = np.abs(weighted).sum(axis=0)
    least = observed - ROUNDING * scale
    n_as_large, n_swaps = np.zeros(weighted.shape[1]), 0
    for signs in _signs(len(weighted)):
        n_as_large += (np.abs(signs @ weighted) >= least).sum(axis=0)
        n_swaps += len(signs)
    if 2 ** len(weighted) <= N_SWAPS:
        return n_as_large / n_swaps  # all there are, the observed one among them
    return (n_as_large + 1) / (n_swaps + 1)


def _signs(n: int) -> Iterator[Floats]:
    """Blocks of rows of n signs: all 2^n rows where they are few, or N_SWAPS at random."""
    if 2**n <= N_SWAPS:
        yield 1.0 - 2.0 * ((np.arange(2**n)[:, None] >> np.arange(n)) & 1)
        return
    random = np.random.default_rng(0)
    step = max(1, N_AT_ONCE // n)
    for first in range(0, N_SWAPS, step):
        shape = (min(step, N_SWAPS - first), n)
        yield 1.0 - 2.0 * random.integers(0, 2, shape, dtype=np.int8)


def _corrected(found: list[Pair]) -> list[Pair]:
    p_values = [one.p for one in found if one.p is not None]
    corrected = iter(holm(p_values))
    return [one if one.p is None else replace(one, p_corrected=next(corrected)) for one in found]
