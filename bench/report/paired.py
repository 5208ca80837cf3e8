"""Is one architecture better than another? Over tasks, lengths and seeds, in pairs.

A pair is two runs of the same task, length and seed; its difference is that of the normalised
scores (`bench.report.aggregate`). Every cell weighs the same; what is at random is the seed, so all
of it is about these tasks and lengths.

    m = sum_c m_c / C          e^2 = sum_c s_c^2 / (n_c C^2)          t = m / e

Effect      m, and the probability that the first is better: the share of pairs in which it is, ties
            counting half (Agarwal et al. 2021, section 4.3, in pairs)
Interval    95%: m with Student's t times e, its degrees of freedom by Welch and Satterthwaite. The
            bootstrap of the two or three seeds of a cell is too narrow.
p           of no difference, two-sided: had the two names been swapped at random in each pair, how
            often would |t| be as large? All 2^N ways where they are few, otherwise N_SWAPS drawn at
            random. t and not m, because m also varies with how much the tasks differ.
Correction  Holm 1979, https://www.jstor.org/stable/4615733, over all pairs of architectures that
            are compared together

A difference needs both: p below SIGNIFICANCE once corrected, and an interval without 0, which is
wide where cells have few seeds. Two pairs have p = 0.5 at the least: few seeds give no evidence,
whatever the difference.

N pairs of runs, C cells of n_c pairs with mean m_c and variance s_c^2, A pairs of architectures.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
from scipy import special

from bench.report.aggregate import Floats, Integers, Sample

N_SWAPS = 10_000
SIGNIFICANCE = 0.05
TAIL = 0.975
ROUNDING = 1e-9  # of the differences' size: their variance is no smaller, and no t larger by it
SIGNS = np.array([1.0, -1.0])
ONE_SEED = "one seed in a cell: no interval"


@dataclass(frozen=True, kw_only=True)
class Pair:
    """What the scores say of two architectures."""

    first: str
    second: str
    n_cells: int = 0
    n_runs: int = 0  # pairs of runs
    difference: float | None = None  # positive: the first is better
    low: float | None = None  # 95% interval
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
        holds_0 = self.low is None or self.high is None or self.low <= 0 <= self.high
        if self.p_corrected >= SIGNIFICANCE or holds_0:
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
    if min(np.bincount(one.cell).min() for one in (first, second)) < 2:
        return ONE_SEED
    same = np.array_equal(first.cell, second.cell) and np.array_equal(first.seed, second.seed)
    return "" if same else "they were not trained with the same seeds"


def _compared(group: Sequence[tuple[Sample, Sample]]) -> Iterator[Pair]:
    """The pairs of architectures that share cells and seeds, at least two in each cell."""
    cell, weights = group[0][0].cell, group[0][0].weights
    gaps = np.stack([first.values - second.values for first, second in group], axis=1)  # (N, A)
    means = weights @ gaps
    better = weights @ ((gaps > 0) + 0.5 * (gaps == 0))
    halves, p_values = _half_intervals(gaps, cell), _p_values(gaps, cell)
    for place, (first, second) in enumerate(group):
        mean, half = float(means[place]), float(halves[place])
        yield Pair(
            first=first.architecture,
            second=second.architecture,
            n_cells=first.n_cells,
            n_runs=len(gaps),
            difference=mean,
            low=mean - half,
            high=mean + half,
            probability=float(better[place]),
            p=float(p_values[place]),
        )


def _half_intervals(gaps: Floats, cell: Integers) -> Floats:
    """Half the width of each 95% interval: (A,)."""
    sizes = np.bincount(cell)
    parts = np.stack(
        [gaps[cell == c].var(axis=0, ddof=1) / (n * len(sizes) ** 2) for c, n in enumerate(sizes)]
    )  # (C, A)
    total = parts.sum(axis=0)
    shares = np.divide(parts, total, out=np.zeros_like(parts), where=total > 0)
    weighted = (shares**2 / (sizes - 1)[:, None]).sum(axis=0)
    freedom = np.divide(1.0, weighted, out=np.ones_like(weighted), where=weighted > 0)
    return np.asarray(special.stdtrit(freedom, TAIL) * np.sqrt(total))


def _p_values(gaps: Floats, cell: Integers) -> Floats:
    """Of each column of differences (N, A): (A,).

    Swapping two names changes the sign of a difference, and so a cell's mean but no square.
    """
    n, sizes = len(gaps), np.bincount(cell)
    exact = 2**n <= N_SWAPS
    n_swaps = 2**n if exact else N_SWAPS + 1
    mean = np.zeros((n_swaps, gaps.shape[1]))
    variance = np.zeros_like(mean)
    random = np.random.default_rng(0)
    begun = 0
    for size in sizes:
        part = gaps[begun : begun + size]
        if exact:
            bits = np.arange(n_swaps)[:, None] >> np.arange(begun, begun + size)
        else:
            bits = random.integers(0, 2, (n_swaps, size), dtype=np.uint8)
        signs = SIGNS[bits & 1]
        signs[0] = 1.0  # the names as they are
        own = signs @ part / size
        mean += own / len(sizes)
        spread = (part**2).mean(axis=0) - own**2
        variance += spread / ((size - 1) * len(sizes) ** 2)
        begun += size
    least = ROUNDING * np.abs(gaps).max(axis=0)
    t = np.abs(mean) / np.sqrt(np.maximum(variance, least**2 + np.finfo(float).tiny))
    return np.asarray((t >= t[0] * (1 - ROUNDING)).mean(axis=0))


def _corrected(found: list[Pair]) -> list[Pair]:
    p_values = [one.p for one in found if one.p is not None]
    corrected = iter(holm(p_values))
    return [one if one.p is None else replace(one, p_corrected=next(corrected)) for one in found]
