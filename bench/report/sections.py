"""The page's sections: the charts of one task, and who leads in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from bench.records.markdown import count, with_interval
from bench.records.summary import lines_of
from bench.report import charts, gradients, statistics
from bench.report.curves import Curves
from bench.report.palette import Look
from bench.report.points import QUANTITIES, SCORE


@dataclass(frozen=True)
class Figure:
    """A chart: what stands above it, and what draws it."""

    title: str
    note: str
    spec: charts.Spec
    datasets: charts.Datasets


@dataclass(frozen=True)
class Section:
    """One task."""

    task: str
    meaning: str
    figures: list[Figure]


@dataclass(frozen=True)
class Leader:
    """Who leads at one length of one task: all that the seeds cannot tell from the best."""

    length: int
    names: list[str]
    score: str
    fastest: str


def section(
    task: str,
    cells: pd.DataFrame,
    runs: pd.DataFrame,
    curves: Curves | None,
    drawn: Sequence[Look],
) -> Section:
    """The figures of one task, whose cells and runs these are."""
    metric, higher = (cells[name].dropna() for name in ("metric", "higher_is_better"))
    meaning = ""
    if len(metric):
        direction = f", {'higher' if higher.iloc[0] else 'lower'} is better" if len(higher) else ""
        meaning = f"{metric.iloc[0]}{direction}"
    figures = []
    for quantity in QUANTITIES:
        if found := charts.against_length(cells, quantity, drawn):
            shape, datasets = found
            scores = quantity is SCORE and len(metric)
            title = f"Test {metric.iloc[0]}" if scores else quantity.title
            figures.append(Figure(title, shape.note, charts.for_page(shape), datasets))
    if curves is not None:
        title = f"Learning curves: {curves.name.replace('_', ' ')}"
        note = f"every seed at length {curves.length:,}, at the setting that val chose"
        spec = charts.curves_for_page(tuple(drawn))
        figures.append(Figure(title, note, spec, {"points": curves.points}))
    return Section(task, meaning, figures + _reach(runs, drawn))


def _reach(runs: pd.DataFrame, drawn: Sequence[Look]) -> list[Figure]:
    """How far back gradients go, at the longest length at which that was measured."""
    longest = gradients.longest(runs)
    return [
        Figure(f"{title}, length {longest['length'].iloc[0]:,}", gradients.NOTE, spec, datasets)
        for title, spec, datasets in gradients.for_page(longest, drawn)
    ]


def leaders(cells: pd.DataFrame) -> list[Leader]:
    """One line per length of one task."""
    found = []
    for _, group in cells.groupby("length", sort=True):
        best = statistics.by_score(group)
        top = lines_of(best)[0]
        names = best.loc[(best["rank"] == 1).fillna(False), "architecture"].tolist()
        found.append(Leader(int(top["length"]), names, _sure(top, names), _fastest(group)))
    return found


def _sure(top: dict[str, Any], names: list[str]) -> str:
    """The best score, and how sure it is."""
    if pd.isna(top["score"]):
        return "no score" if top["n_wanted"] else "not trained"
    text = with_interval(top["score"], top["score_low"], top["score_high"])
    return text if names else f"{text} by {top['architecture']}, one seed: not ranked"


def _fastest(cells: pd.DataFrame) -> str:
    """`lstm, gru (12,300)`: those that measuring cannot tell from the fastest, and its speed."""
    fast = lines_of(statistics.fastest(cells, "train_tokens_per_s"))
    if not fast:
        return ""
    mark = " †" if statistics.kernel_class(fast[0]["kernel"]) == "reference" else ""
    names = ", ".join(cell["architecture"] for cell in fast)
    return f"{names} ({count(fast[0]['train_tokens_per_s'], 3)}){mark}"
