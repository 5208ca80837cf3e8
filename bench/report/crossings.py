"""The crossover table of the page: the pairs whose cheaper one changes, and how many do not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from bench.records.markdown import count, number
from bench.report.crossover import Comparison, crossovers
from bench.report.series import QUANTITIES, Quantity
from bench.report.statistics import kernel_class

N_LISTED = 200  # of those that do not cross, for each quantity; all are in `bench scaling`


@dataclass(frozen=True)
class Crossings:
    """The comparisons of all pairs in one quantity."""

    title: str
    told: str  # how many cross, and what of the others
    crossing: list[list[str]]  # task, pair, crossover, lengths, smallest ratio, remark
    others: list[list[str]]
    n_unlisted: int

    @property
    def headings(self) -> tuple[str, ...]:
        """Of both lists."""
        return ("task", "pair", "crossover", "lengths", "smallest ratio", "remark")


def tables(frame: pd.DataFrame) -> list[Crossings]:
    """One for each quantity that was measured at several lengths."""
    if frame["architecture"].nunique() < 2:
        return []
    measured = frame[frame["purpose"] == "measure"]  # once, not for each quantity
    found = [_table(quantity, crossovers(measured, quantity)) for quantity in QUANTITIES.values()]
    return [one for one in found if one.crossing or one.others]


def _table(quantity: Quantity, pairs: Sequence[Comparison]) -> Crossings:
    crossing = [pair for pair in pairs if pair.crossings]
    others = [pair for pair in pairs if not pair.crossings]
    n_unknown = sum(bool(pair.missing) for pair in others)
    n_same = sum(not pair.missing and not any(pair.cheaper_at) for pair in others)
    numbers = {
        "cross": len(crossing),
        "do not": len(others) - n_unknown - n_same,
        "show no difference": n_same,
        "cannot be compared": n_unknown,
    }
    parts = ", ".join(f"{count(n)} {what}" for what, n in numbers.items() if n)
    of = f"{count(len(pairs))} pair{'' if len(pairs) == 1 else 's'}"
    return Crossings(
        title=quantity.title,
        told=f"{of}: {parts}",
        crossing=[_line(pair) for pair in crossing],
        others=[_line(pair) for pair in others[:N_LISTED]],
        n_unlisted=max(0, len(others) - N_LISTED),
    )


def _line(pair: Comparison) -> list[str]:
    names = [
        f"{one.architecture}{' †' if kernel_class(one.kernel) == 'reference' else ''}"
        for one in pair.both
    ]
    lengths = f"{count(pair.lengths[0])} to {count(pair.lengths[-1])}" if pair.lengths else ""
    return [
        pair.first.task,
        " and ".join(names),
        pair.verdict,
        lengths,
        number(pair.smallest, 3),
        pair.remark,
    ]
