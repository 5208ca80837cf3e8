"""What rows allow to say: ranks with ties, and means over tasks only where nothing is missing.

Intervals over seeds are those of `bench.records.bootstrap`, settings those that val chose
(`bench.records.summary`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd

from bench.records.noise import differ
from bench.records.summary import lines_of
from bench.report.aggregate import Mean, Sample, interquartile_means, why_incomplete

Frame = pd.DataFrame


def with_ranks(cells: Frame) -> Frame:
    """The cells with a `rank` inside their task and length.

    It is one more than the number of architectures that are clearly better: whose whole interval is
    on the better side of this one's. So architectures that the seeds cannot tell apart share a
    rank. Without an interval (one seed, or no score) nothing can be told, and there is no rank.
    """
    ranks = pd.Series(pd.NA, index=cells.index, dtype="Int64")
    for _, group in cells.groupby(["task", "length"], sort=False):
        known = group[group["score_low"].notna()]
        if known.empty:
            continue
        low, high = known["score_low"].to_numpy(), known["score_high"].to_numpy()
        if _higher_is_better(known):
            better = low[None, :] > high[:, None]
        else:
            better = high[None, :] < low[:, None]
        ranks[known.index] = 1 + better.sum(axis=1)
    return cells.assign(rank=ranks)


def by_score(cells: Frame) -> Frame:
    """The cells of one task and length, the best mean first, those without a score last."""
    ascending = not _higher_is_better(cells)
    return cells.sort_values("score", ascending=ascending, na_position="last", kind="stable")


def _higher_is_better(cells: Frame) -> bool:
    known = cells["higher_is_better"].dropna()
    return bool(known.iloc[0]) if len(known) else True


@dataclass(frozen=True, kw_only=True)
class Overall:
    """An architecture's means over all tasks and lengths, or why it has none."""

    architecture: str
    mean_rank: float | None
    n_cells: int  # tasks x lengths that were to be trained
    n_first: int  # in which no other was clearly better
    refused: str  # empty if there is a mean rank
    score: Mean | None = None  # the interquartile mean of its normalised scores
    score_refused: str = ""


def overall(ranked: Frame, samples: Sequence[Sample] = ()) -> list[Overall]:
    """Every architecture, the lowest mean rank first, with the means of its sample if given.

    A mean over what happens to be there flatters who fails where it is hard: it is refused unless
    every seed of every cell ended well.
    """
    scores = interquartile_means(samples)
    lacking = {one.architecture: one.refused for one in samples}
    trained = ranked[ranked["n_wanted"] > 0]
    wanted = trained[["task", "length"]].drop_duplicates()
    found = []
    for architecture, cells in ranked.groupby("architecture", sort=False):
        cells = wanted.merge(cells, on=["task", "length"], how="left")
        refused = next(filter(None, map(_why_refused, lines_of(cells))), "")
        mean = None if refused or cells.empty else float(cells["rank"].astype(float).mean())
        found.append(
            Overall(
                architecture=str(architecture),
                mean_rank=mean,
                n_cells=len(cells),
                n_first=int((cells["rank"] == 1).sum()),
                refused=refused,
                score=scores.get(str(architecture)),
                score_refused=lacking.get(str(architecture), ""),
            )
        )
    return sorted(found, key=lambda one: np.inf if one.mean_rank is None else one.mean_rank)


def _why_refused(cell: dict[str, Any]) -> str:
    where = f"{cell['task']} at {cell['length']}"
    if reason := why_incomplete(cell, where):
        return reason
    if pd.isna(cell["rank"]):
        return f"{where}: one seed has no interval, so no rank"
    return ""


KernelClass = Literal["reference", "library", "unknown"]


def kernel_class(kernel: object) -> KernelClass:
    """Plain PyTorch, or a fused implementation that no plain one can be compared with."""
    if not isinstance(kernel, str) or not kernel:
        return "unknown"
    return "reference" if "reference" in kernel else "library"


def fastest(cells: Frame, speed: str) -> Frame:
    """The fastest cell of one task and length first, then all from which it does not differ.

    Plain PyTorch is not ranked against fused kernels: it counts only where there is nothing else.
    `speed` is `train_tokens_per_s` or `infer_tokens_per_s`.
    """
    known = cells[cells[speed] > 0].sort_values(speed, ascending=False, kind="stable")
    classes = known["kernel"].map(kernel_class)
    for one in ("library", "reference"):
        if (classes == one).any():
            known = known[classes == one]
            break
    if known.empty:
        return known
    best = known.iloc[0]
    alike = [
        not differ(
            best[speed],
            cell[speed],
            (best["noise_floor"], cell["noise_floor"]),
            (best["reference_ms"], cell["reference_ms"])
            if best["hardware"] == cell["hardware"]
            else (),
        )
        for cell in lines_of(known)
    ]
    return known[alike]
