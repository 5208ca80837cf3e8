"""Scores over tasks and lengths: one scale for all, the interquartile mean, and its interval.

    normalised score = (score - chance) / (perfect - chance)

0 is chance and 1 perfect, whichever way the metric points. Perfect is 1 where a higher fraction is
better, and 0 where lower is better (an error, a loss, bits); of other metrics it is not known.

The interquartile mean over all runs, cells and seeds together, drops the worst and the best
quarter: Agarwal et al. 2021, https://arxiv.org/abs/2108.13264, section 4.3. Every cell weighs the
same, however many seeds it has. The interval is their stratified bootstrap: seeds are drawn anew
within each cell; and it is widened for the few seeds of the cells (`bench.records.bootstrap`). It
says what other seeds would do on these tasks, and nothing about other tasks.

N runs, C cells, R resamples.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pandas as pd

from bench.records.bootstrap import stretch
from bench.records.seeds import scored_runs
from bench.records.summary import CELL, lines_of

Frame = pd.DataFrame
Floats: TypeAlias = npt.NDArray[np.float64]
Integers: TypeAlias = npt.NDArray[np.int64]
N_RESAMPLES = 2000
N_AT_ONCE = 4_000_000  # numbers of resamples in memory at a time
CONFIDENCE = 0.95
CUT = 0.25  # of the weight at each end


@dataclass(frozen=True, kw_only=True)
class Sample:
    """The normalised scores of one architecture in all cells, cell by cell, seeds ascending."""

    architecture: str
    values: Floats  # (N,)
    cell: Integers  # (N,) 0..C-1, ascending
    seed: Integers  # (N,)
    refused: str = ""  # why there is no mean over the cells, naming the first that is missing

    @property
    def n_cells(self) -> int:
        """C, tasks x lengths."""
        return len(np.unique(self.cell))

    @property
    def weights(self) -> Floats:
        """Of each run, so that every cell weighs the same: (N,), their sum is 1."""
        sizes = np.bincount(self.cell)
        return np.asarray(1.0 / (sizes[self.cell] * len(sizes)))


@dataclass(frozen=True, kw_only=True)
class Mean:
    """An interquartile mean; without an interval where some cell has one seed."""

    value: float
    low: float | None
    high: float | None
    n_runs: int


def samples(frame: Frame, cells: Frame) -> list[Sample]:
    """One for each architecture of a summary that was trained; `frame` is its tidy table."""
    trained = cells[cells["n_wanted"] > 0]
    places = {key: place for place, key in enumerate(dict.fromkeys(_keys(trained)))}
    runs = scored_runs(frame, trained)
    runs["value"] = _normalised(runs["test_score"], runs, trained)
    by_name = dict(iter(runs.groupby("architecture", sort=False)))
    found = []
    for name, part in trained.groupby("architecture", sort=False):
        ours = by_name.get(str(name), runs.iloc[:0])
        place = np.array([places[key] for key in _keys(ours)], dtype=np.int64)
        order = np.lexsort((ours["seed"].to_numpy(), place))
        found.append(
            Sample(
                architecture=str(name),
                values=ours["value"].to_numpy(dtype=float)[order],
                cell=place[order],
                seed=ours["seed"].to_numpy(dtype=np.int64)[order],
                refused=_refused(part, places, ours),
            )
        )
    return found


def why_incomplete(cell: Mapping[str, Any] | None, where: str) -> str:
    """Why a cell must not be left out of a mean in silence; empty if it is whole."""
    if cell is None or pd.isna(cell["n_wanted"]) or not cell["n_wanted"]:
        return f"{where} is not in the study"
    if cell["problems"]:
        return f"{where}: {cell['problems']} of {cell['n_wanted']} seeds"
    return ""


def interquartile_means(samples: Iterable[Sample]) -> dict[str, Mean]:
    """By architecture, of those samples that are whole. Without an interval: a cell has one seed.

    Samples of the same seeds share their resamples, which cost more than the means of them.
    """
    alike: dict[bytes, list[Sample]] = {}
    for sample in samples:
        if not sample.refused and len(sample.values):
            alike.setdefault(sample.cell.tobytes(), []).append(sample)
    found = {}
    for group in alike.values():
        sizes = np.bincount(group[0].cell)
        ends = _ends(group) if sizes.min() > 1 else [(None, None)] * len(group)
        for sample, (low, high) in zip(group, ends, strict=True):
            order = np.argsort(sample.values, kind="stable")
            weights = sample.weights[order, None]
            value = float(_middle_means(weights, sample.values[order])[0])
            if low is not None and high is not None:
                # Rounding must not put both ends on one side of the value.
                low, high = min(low, value), max(high, value)
                # Where cells differ more than their seeds, those of the middle half say all.
                factor = stretch(int(sizes.min()), max(1, len(sizes) // 2))
                low, high = value + factor * (low - value), value + factor * (high - value)
            mean = Mean(value=value, low=low, high=high, n_runs=len(sample.values))
            found[sample.architecture] = mean
    return found


def _ends(group: Sequence[Sample]) -> list[tuple[float, float]]:
    """The intervals of samples of the same cells."""
    cell, weights = group[0].cell, group[0].weights
    orders = [np.argsort(sample.values, kind="stable") for sample in group]
    means: list[list[Floats]] = [[] for _ in group]
    for drawn in resampled(cell):
        for sample, order, found in zip(group, orders, means, strict=True):
            weighted = drawn[order] * weights[order, None]
            found.append(_middle_means(weighted, sample.values[order]))
    return [interval(np.concatenate(found)) for found in means]


def resampled(cell: Integers) -> Iterator[Floats]:
    """How often each run is drawn when seeds are drawn anew within each cell: blocks (N, r) of R.

    The same for the same cells.
    """
    sizes = np.bincount(cell)
    starts = np.cumsum(sizes) - sizes
    n = len(cell)
    random = np.random.default_rng(0)
    step = max(1, N_AT_ONCE // n)
    for first in range(0, N_RESAMPLES, step):
        r = min(step, N_RESAMPLES - first)
        within = (random.random((n, r)) * sizes[cell, None]).astype(np.int64)
        flat = (starts[cell, None] + within) * r + np.arange(r)
        yield np.bincount(flat.ravel(), minlength=n * r).reshape(n, r).astype(np.float64)


def interval(values: Floats) -> tuple[float, float]:
    """The ends that hold CONFIDENCE of resampled values."""
    tail = 100 * (1 - CONFIDENCE) / 2
    low, high = np.percentile(values, [tail, 100 - tail])
    return float(low), float(high)


def _middle_means(weights: Floats, values: Floats) -> Floats:
    """The means of ascending values (N,) with weights (N, r), which are overwritten: (r,).

    CUT of the weight at each end counts nothing. With the weights' sums c_i, each clipped to what
    is left, the mean is that of v_i (c_i - c_(i-1)), summed by parts.
    """
    sums = np.cumsum(weights, axis=0, out=weights)
    sums /= sums[-1].copy()
    np.clip(sums, CUT, 1 - CUT, out=sums)
    inner = np.diff(values) @ sums[:-1]
    return np.asarray(((1 - CUT) * values[-1] - CUT * values[0] - inner) / (1 - 2 * CUT))


def _keys(cells: Frame) -> list[tuple[str, int]]:
    """Task and length of each line."""
    return list(zip(cells["task"].tolist(), cells["length"].tolist(), strict=True))


def _normalised(scores: pd.Series[Any], runs: Frame, cells: Frame) -> Floats:
    """Scores between chance (0) and perfect (1); nan where either is not known."""
    meaning = runs[CELL].merge(cells[[*CELL, "chance", "unit", "higher_is_better"]], on=CELL)
    chance = meaning["chance"].to_numpy(dtype=float)
    higher = meaning["higher_is_better"].to_numpy(dtype=float, na_value=np.nan)
    fraction = (meaning["unit"] == "fraction").to_numpy()
    perfect = np.where(higher == 0, 0.0, np.where((higher == 1) & fraction, 1.0, np.nan))
    span = np.where(perfect == chance, np.nan, perfect - chance)
    return np.asarray((scores.to_numpy(dtype=float) - chance) / span)


def _refused(part: Frame, places: Mapping[tuple[str, int], int], runs: Frame) -> str:
    """The first cell that an architecture lacks, and why."""
    has = dict(zip(_keys(part), lines_of(part), strict=True))
    for task, length in places:
        if reason := why_incomplete(has.get((task, length)), f"{task} at {length}"):
            return reason
    unknown = runs[runs["value"].isna()]
    if len(unknown):
        task, length = _keys(unknown)[0]
        return f"{task} at {length}: chance or a perfect score is not known"
    return ""
