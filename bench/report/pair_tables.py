"""The comparisons of every two architectures as Markdown and CSV. Equal rows give equal bytes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypeAlias, get_args

import pandas as pd

from bench.errors import unknown
from bench.records.markdown import between, count, number
from bench.records.summary import summarise
from bench.report.aggregate import samples
from bench.report.document import Paragraph, Table, as_markdown
from bench.report.paired import Pair, pairs

Format: TypeAlias = Literal["md", "csv"]
FORMATS: tuple[Format, ...] = get_args(Format)
HEADINGS = (
    "architecture",
    "against",
    "difference",
    "better in",
    "pairs of runs",
    "p (Holm)",
    "verdict",
)
RIGHT = frozenset((2, 3, 4, 5))
NOTE = (
    "Difference of the normalised scores (0 chance, 1 perfect) of runs of the same task, length "
    "and seed, every task and length weighing the same, with its 95% interval; and the share of "
    "runs in which the architecture is better. p: of no difference, by swapping names at random, "
    "corrected for {n} of architectures that are compared; better is said where it is below "
    "0.05 and the interval lacks 0. It is about these tasks: what "
    "is at random is the seed, and with few seeds no evidence can be had."
)


def render(frame: pd.DataFrame, format: Format) -> str:  # noqa: A002 (what it is)
    """Every two architectures of a tidy table."""
    found = pairs(samples(frame, summarise(frame)))
    if format == "csv":
        records = [_record(one) for one in found]
        table = pd.DataFrame.from_records(records, columns=list(_record(Pair(first="", second=""))))
        return table.to_csv(index=False, lineterminator="\n", float_format="%.10g")
    if format == "md":
        if not found:
            return "fewer than two architectures were trained\n"
        return as_markdown([table_of(found), note(found)])
    raise unknown("format", format, FORMATS)


def table_of(found: Sequence[Pair]) -> Table:
    """A line for each pair."""
    return Table(HEADINGS, [_line(one) for one in found], RIGHT)


def note(found: Sequence[Pair]) -> Paragraph:
    """How to read it, with the number of pairs that p was corrected for."""
    n = sum(one.p is not None for one in found)
    return Paragraph(NOTE.format(n="1 pair" if n == 1 else f"all {n} pairs"))


def _line(pair: Pair) -> list[str]:
    if pair.difference is None:
        return [pair.first, pair.second, "", "", "", "", pair.verdict]
    difference, ends = f"{pair.difference:+.4f}", (number(pair.low), number(pair.high))
    return [
        pair.first,
        pair.second,
        between(difference, *ends),
        f"{100 * (pair.probability or 0):.0f}%",
        count(pair.n_runs),
        "" if pair.p_corrected is None else _p(pair.p_corrected),
        pair.verdict,
    ]


def _p(value: float) -> str:
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def _record(pair: Pair) -> dict[str, object]:
    return {
        "first": pair.first,
        "second": pair.second,
        "n_cells": pair.n_cells,
        "n_runs": pair.n_runs,
        "difference": pair.difference,
        "difference_low": pair.low,
        "difference_high": pair.high,
        "probability_first_is_better": pair.probability,
        "p": pair.p,
        "p_corrected": pair.p_corrected,
        "verdict": pair.verdict,
    }
