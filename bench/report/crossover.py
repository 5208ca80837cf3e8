"""The length at which the cheaper of two architectures changes, with its interval.

Between measured lengths the ratio of the two costs is a straight line in log-log. Where it is
smaller than the noise floor allows (`records.noise`) or than its own interval, neither is
called cheaper. A crossing lies between two lengths at which first the one and then the other is
clearly cheaper; several are all listed, and no length beyond the measured ones is claimed.

The interval of a crossing is a bootstrap: every cost is moved by its own error, and the place where
the ratio passes 1 is found again. It does not hold what the costs do between measured lengths.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import combinations, pairwise

import numpy as np
import pandas as pd

from bench.errors import unknown
from bench.records.markdown import count
from bench.records.noise import least_ratio
from bench.report.series import ALIKE, QUANTITIES, Z95, Floats, Quantity, Series, all_series
from bench.report.statistics import kernel_class

N_RESAMPLES = 1000


@dataclass(frozen=True, kw_only=True)
class Crossing:
    """From this length on `cheaper` is the cheaper one."""

    length: float  # tokens
    low: float  # 95% interval
    high: float
    cheaper: str


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Two architectures over the lengths that both were measured at."""

    first: Series
    second: Series
    lengths: tuple[int, ...] = ()
    smallest: float | None = None  # the ratio below which nothing is a difference
    crossings: tuple[Crossing, ...] = ()
    cheaper_at: tuple[str, ...] = ()  # the clearly cheaper one at each length; empty: neither
    missing: str = ""  # why nothing can be said

    @property
    def verdict(self) -> str:
        """`none up to 8,192: gru is faster throughout`."""
        if self.missing:
            return self.missing
        if self.crossings:
            return "; ".join(map(_told, self.crossings))
        longest, better = count(self.lengths[-1]), self.first.quantity.better
        names = [name for name in self.cheaper_at if name]
        if not names:
            return f"no difference up to {longest}"
        where = "throughout"
        if len(names) < len(self.lengths):
            pairs = zip(self.lengths, self.cheaper_at, strict=True)
            told = [count(at) for at, name in pairs if name]
            where = f"at {', '.join(told)}, no difference at the others"
        return f"none up to {longest}: {names[0]} {better} {where}"

    @property
    def remark(self) -> str:
        """What has to be said beside the verdict."""
        classes = [kernel_class(one.kernel) for one in self.both]
        parts = []
        if classes[0] != classes[1]:
            pairs = zip(self.both, classes, strict=True)
            told = [f"{one.architecture} {class_}" for one, class_ in pairs]
            parts.append(f"kernels of two classes: {', '.join(told)}")
        if self.first.noise_floor is None and self.first.quantity is not QUANTITIES["memory"]:
            parts.append("noise floor not recorded")
        parts += [f"{one.architecture}: {one.problems}" for one in self.both if one.problems]
        return "; ".join(parts)

    @property
    def both(self) -> tuple[Series, Series]:
        """The two series."""
        return self.first, self.second


def crossovers(frame: pd.DataFrame, quantity: Quantity) -> list[Comparison]:
    """Every pair of architectures that were measured alike, in the order of the table."""
    pairs = combinations(all_series(frame, quantity), 2)
    return [
        compare(first, second)
        for first, second in pairs
        if first.architecture != second.architecture and first.alike == second.alike
    ]


def crossovers_of(
    frame: pd.DataFrame, first: str, second: str, quantity: Quantity
) -> list[Comparison]:
    """The comparisons of two architectures: one per task, machine, precision and kernel.

    Raises:
        UserError: the table has no such architecture.
    """
    names = frame["architecture"].unique().tolist()
    for name in (first, second):
        if name not in names:
            raise unknown("architecture", name, names)
    found = all_series(frame, quantity)
    ours, theirs = ([one for one in found if one.architecture == name] for name in (first, second))
    alike = [compare(a, b) for a in ours for b in theirs if a.alike == b.alike]
    if alike or not (ours and theirs):
        return alike
    differing = [
        name
        for name, one, other in zip(ALIKE, ours[0].alike, theirs[0].alike, strict=True)
        if one != other
    ]
    reason = f"not measured alike: they differ in {', '.join(differing)}"
    return [Comparison(first=ours[0], second=theirs[0], missing=reason)]


def compare(first: Series, second: Series) -> Comparison:
    """Where the cheaper one of two changes."""
    lengths, ours, theirs = np.intersect1d(first.lengths, second.lengths, return_indices=True)
    same_batch = np.array_equal(first.tokens[ours], second.tokens[theirs], equal_nan=True)
    if len(lengths) < 2 or not same_batch:
        reason = f"{len(lengths)} length in common, 2 are needed"
        if not same_batch:
            reason = "they were measured with batches of different sizes"
        return Comparison(
            first=first, second=second, missing=reason.replace("0 length ", "no length ")
        )
    gap = np.log(first.costs[ours] / second.costs[theirs])  # (n,) negative: first is cheaper
    errors = np.hypot(first.errors[ours], second.errors[theirs])
    floors = (first.noise_floor, second.noise_floor)
    pairs = zip(first.references_ms[ours], second.references_ms[theirs], strict=True)
    smallest = np.array([least_ratio(floors, pair) for pair in pairs])
    clear = np.abs(gap) >= np.maximum(np.log(smallest), Z95 * errors)
    signs = np.where(clear, np.sign(gap), 0.0)
    names = {-1.0: first.architecture, 0.0: "", 1.0: second.architecture}
    known = np.flatnonzero(clear).tolist()
    crossings = [
        _crossing(np.log(lengths), gap, errors, (start, end), names[float(signs[end])])
        for start, end in pairwise(known)
        if signs[start] != signs[end]
    ]
    return Comparison(
        first=first,
        second=second,
        lengths=tuple(map(int, lengths)),
        smallest=float(smallest.max()),
        crossings=tuple(crossings),
        cheaper_at=tuple(names[float(sign)] for sign in signs),
    )


def _crossing(
    logs: Floats, gap: Floats, errors: Floats, ends: tuple[int, int], cheaper: str
) -> Crossing:
    """The crossing between two lengths, given by index, with opposite signs of the gap."""
    part = slice(ends[0], ends[1] + 1)
    logs, gap, errors = logs[part], gap[part], errors[part]
    moved = gap + errors * np.random.default_rng(0).standard_normal((N_RESAMPLES, len(gap)))
    sign = float(np.sign(gap[-1]))
    low, high = np.percentile(_zeros(logs, moved * sign), [2.5, 97.5])
    place = float(_zeros(logs, gap[None] * sign)[0])
    return Crossing(
        length=math.exp(place),
        low=math.exp(min(low, place)),
        high=math.exp(max(high, place)),
        cheaper=cheaper,
    )


def _zeros(logs: Floats, rising: Floats) -> Floats:
    """Where each line (n, T) from below to above 0 passes it: the middle one of several places.

    A resample may lie above throughout, or below: then it is the first end, or the last.
    """
    passes = (rising[:, :-1] < 0) & (rising[:, 1:] >= 0)  # (n, T - 1)
    counts = passes.sum(axis=1)
    middle = passes & (passes.cumsum(axis=1) == counts[:, None] // 2 + 1)
    index = middle.argmax(axis=1)  # of the middle pass; 0 where there is none
    lines = np.arange(len(rising))
    below, above = rising[lines, index], rising[lines, index + 1]
    rise = np.where(counts > 0, above - below, 1.0)
    found = logs[index] - below / rise * (logs[index + 1] - logs[index])
    ends = np.where(rising[:, -1] >= 0, logs[0], logs[-1])
    places: Floats = np.where(counts > 0, found, ends)
    return places


def _told(crossing: Crossing) -> str:
    """`300 [290, 311], from there on transformer`."""
    interval = f"[{count(crossing.low, 3)}, {count(crossing.high, 3)}]"
    return f"{count(crossing.length, 3)} {interval}, from there on {crossing.cheaper}"
