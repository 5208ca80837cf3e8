"""The page's sections: the charts of one task, and who leads in it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from bench.records.markdown import count, with_interval
from bench.records.summary import lines_of
from bench.report import charts, described, gradients, pareto, reach, statistics, stream_charts
from bench.report.curves import Curves
from bench.report.palette import Look
from bench.report.points import QUANTITIES, SCORE

LEADER_COLUMNS = [  # each further one costs time at each length of each task
    *("length", "architecture", "rank", "higher_is_better"),
    *("score", "score_low", "score_high", "n_wanted"),
    *("train_tokens_per_s", "kernel", "noise_floor", "reference_ms", "hardware"),
]


@dataclass(frozen=True)
class Figure:
    """A chart: what stands above it, what it says to who cannot see it, and what draws it."""

    title: str
    note: str
    description: str
    spec: charts.Spec
    datasets: charts.Datasets


@dataclass(frozen=True)
class Section:
    """One task."""

    task: str
    meaning: str
    figures: list[Figure]
    reaches: list[reach.ReachTable] = field(default_factory=list)
    streams: list[list[str]] = field(default_factory=list)  # lines of a table


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
    trainings: Mapping[str, str],
) -> Section:
    """The figures of one task, whose cells and runs these are.

    `trainings` says by id how the training of a run that measured gradients differs.
    """
    metric, higher = (cells[name].dropna() for name in ("metric", "higher_is_better"))
    meaning = ""
    if len(metric):
        direction = f", {'higher' if higher.iloc[0] else 'lower'} is better" if len(higher) else ""
        meaning = f"{metric.iloc[0]}{direction}"
    reaching, streamed = gradients.longest(runs), stream_charts.measured(runs)
    figures = [
        *_against_length(cells, drawn),
        *_fronts(cells, drawn),
        *_learned(curves, drawn),
        *_reach(reaching, drawn),
        *_streams(streamed, drawn),
    ]
    tables = reach.tables(reaching, trainings)
    return Section(task, meaning, figures, tables, stream_charts.table(streamed))


def _against_length(cells: pd.DataFrame, drawn: Sequence[Look]) -> Iterator[Figure]:
    metric = cells["metric"].dropna()
    for quantity in QUANTITIES:
        if found := charts.against_length(cells, quantity, drawn):
            shape, datasets = found
            scores = quantity is SCORE and len(metric)
            title = f"Test {metric.iloc[0]}" if scores else quantity.title
            told = described.against(
                f"{title} against length", datasets["points"], "length", "tokens"
            )
            yield Figure(title, shape.note, told, charts.for_page(shape), datasets)


def _fronts(cells: pd.DataFrame, drawn: Sequence[Look]) -> Iterator[Figure]:
    for front in pareto.fronts(cells):
        title = f"Score against {front.cost.title.lower()}, length {front.length:,}"
        told = f"{title}. On the front: {', '.join(front.names)}."
        spec = charts.front_for_page(front.cost, tuple(drawn))
        yield Figure(title, front.note, told, spec, {"points": front.points})


def _learned(curves: Curves | None, drawn: Sequence[Look]) -> Iterator[Figure]:
    if curves is not None:
        title = f"Learning curves: {curves.name.replace('_', ' ')}"
        note = f"every seed at length {curves.length:,}, at the setting that val chose"
        told = described.against(title, curves.points, "step", "")
        spec = charts.curves_for_page(tuple(drawn))
        yield Figure(title, note, told, spec, {"points": curves.points})


def _reach(longest: pd.DataFrame, drawn: Sequence[Look]) -> Iterator[Figure]:
    """How far back gradients go, at the longest length at which that was measured."""
    for title, spec, datasets in gradients.for_page(longest, drawn):
        titled = f"{title}, length {longest['length'].iloc[0]:,}"
        told = described.against(titled, datasets["reach"], "k", "tokens back")
        yield Figure(titled, gradients.NOTE, told, spec, datasets)


def _streams(streamed: pd.DataFrame, drawn: Sequence[Look]) -> Iterator[Figure]:
    for one in stream_charts.pictures(streamed):
        told = described.against(one.title, one.points, "position", "tokens read")
        spec = charts.stream_for_page(one.shape, tuple(drawn))
        yield Figure(one.title, one.note, told, spec, {"points": one.points})


def leaders(cells: pd.DataFrame) -> list[Leader]:
    """One line per length of one task."""
    found = []
    for _, group in cells[LEADER_COLUMNS].groupby("length", sort=True):
        best = statistics.by_score(group)
        top = lines_of(best.head(1))[0]
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
