"""The reproduction card: what a study measured against the paper that it `reproduces`.

The gap is the mean over seeds less the printed number, in the unit of our column. Reproduced: the
whole 95% interval of the mean lies within the tolerance of it. Not reproduced: the whole interval
lies outside, on the better side too. Anything else is undecided, and so are one seed, a seed
without a score and a printed value that is no number.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

import numpy as np
import pandas as pd

from bench.errors import UserError, unknown
from bench.records.bootstrap import interval
from bench.records.markdown import between, number
from bench.records.summary import lines_of, summarise
from bench.report import published
from bench.report.document import Heading, Paragraph, Part, Table, as_markdown
from bench.report.published import Number, Reported
from bench.study import STUDY_FILE, Study

Verdict: TypeAlias = Literal["reproduced", "not reproduced", "undecided"]
VERDICTS: tuple[Verdict, ...] = get_args(Verdict)
ROUNDING = 1e-12  # of a mean: no gap that anybody measured
HEADINGS = (
    *("task", "length", "architecture", "column", "published", "measured", "seeds", "gap"),
    *("verdict", "why", "differs"),
)


@dataclass(frozen=True, kw_only=True)
class Card:
    """One cell against one printed number."""

    reported: Reported
    mean: float | None
    low: float | None  # 95% interval over seeds
    high: float | None
    n_seeds: int  # with a score
    n_wanted: int
    verdict: Verdict
    why: str

    @property
    def gap(self) -> float | None:
        """Measured less published."""
        if self.mean is None or self.reported.value is None:
            return None
        gap = self.mean - self.reported.value
        return 0.0 if abs(gap) < ROUNDING * abs(self.mean) else gap


def cards(study: Study, frame: pd.DataFrame, numbers: Sequence[Number]) -> list[Card]:
    """A card for every cell of the study that stands beside a number of its citation.

    `frame` is the tidy table of the study, missing runs included.

    Raises:
        UserError: the study names no citation, one that there is not, or one whose numbers stand
            beside none of its cells.
    """
    wanted = study.reproduces
    if wanted is None:
        raise UserError(
            f"{study.folder / STUDY_FILE} has no `reproduces: {{citation, tolerance}}`; "
            "`bench published` lists citations"
        )
    cited = [n for n in numbers if n.citation == wanted.citation]
    if not cited:
        raise unknown("citation", wanted.citation, {n.citation for n in numbers})
    for name in ("task", "architecture"):
        given = getattr(wanted, name)
        choices = {getattr(n, name) for n in cited}
        if given is not None and given not in choices:
            raise unknown(f"{name} of that citation", given, choices)
        cited = [n for n in cited if given in (None, getattr(n, name))]
    lines = published.for_study(study, cited)
    if not lines:
        raise UserError(
            f"no cell of {study.folder} is one of {wanted.citation}; it has {_offers(cited)}"
        )
    settings = {
        (cell["task"], cell["length"], cell["architecture"]): cell["setting"]
        for cell in lines_of(summarise(frame))
    }
    return [_card(line, frame, settings, wanted.tolerance) for line in lines]


def render(study: Study, found: Sequence[Card]) -> str:
    """The card as Markdown."""
    return as_markdown([Heading(1, f"Reproduction: {study.title}"), *parts(study, found)])


def parts(study: Study, found: Sequence[Card]) -> list[Part]:
    """What the card says, below its title."""
    assert study.reproduces is not None
    against = (
        f"Against {study.reproduces.citation}; reproduced within "
        f"{study.reproduces.tolerance:g} of what is printed."
    )
    counts = {verdict: sum(card.verdict == verdict for card in found) for verdict in VERDICTS}
    tally = ", ".join(f"{n} {verdict}" for verdict, n in counts.items() if n)
    return [Paragraph(against), _table(found), Paragraph(tally)]


def _table(found: Sequence[Card]) -> Table:
    return Table(
        HEADINGS,
        [
            [
                card.reported.task,
                f"{card.reported.length:,}",
                card.reported.architecture,
                card.reported.column,
                number(card.reported.value) or card.reported.number.value,
                between(number(card.mean), number(card.low), number(card.high)),
                f"{card.n_seeds} of {card.n_wanted}",
                "" if card.gap is None else f"{'+' if card.gap > 0 else ''}{number(card.gap)}",
                card.verdict,
                card.why,
                card.reported.differs,
            ]
            for card in found
        ],
        frozenset((1, 4, 5, 6, 7)),
    )


def _card(
    line: Reported,
    frame: pd.DataFrame,
    settings: dict[tuple[str, int, str], object],
    tolerance: float,
) -> Card:
    setting = settings.get((line.task, line.length, line.architecture))
    rows = frame[
        (frame["task"] == line.task)
        & (frame["length"] == line.length)
        & (frame["architecture"] == line.architecture)
        & (frame["purpose"] == "train")
        & (frame["setting"] == setting)
    ]
    good = rows[rows["status"] == "ok"].sort_values(["seed", "id"])
    column = good[line.column] if line.column in good else pd.Series([], dtype=float)
    values = pd.to_numeric(column, errors="coerce").dropna().to_numpy(dtype=float)
    low = high = None
    if len(values) > 1:
        low, high = (float(end[0]) for end in interval(values[None]))
    verdict, why = _verdict(line, values, low, high, len(rows), tolerance)
    return Card(
        reported=line,
        mean=float(np.mean(values)) if len(values) else None,
        low=low,
        high=high,
        n_seeds=len(values),
        n_wanted=len(rows),
        verdict=verdict,
        why=why,
    )


def _verdict(
    line: Reported,
    values: np.ndarray[tuple[int, ...], np.dtype[np.float64]],
    low: float | None,
    high: float | None,
    n_wanted: int,
    tolerance: float,
) -> tuple[Verdict, str]:
    if line.value is None:
        return "undecided", f"{line.number.value!r} is printed, which is no number"
    if len(values) < n_wanted:
        return "undecided", f"{len(values)} of {n_wanted} seeds have a {line.column}"
    if low is None or high is None:
        return "undecided", "one seed has no interval"
    nearest = min(max(line.value, low), high)
    furthest = max(abs(low - line.value), abs(high - line.value))
    if furthest <= tolerance:
        return "reproduced", ""
    if abs(nearest - line.value) > tolerance:
        return "not reproduced", "measured higher" if low > line.value else "measured lower"
    return "undecided", "the interval reaches across the tolerance: more seeds would decide"


def _offers(cited: Sequence[Number]) -> str:
    """`smnist at 784 (lstm_stack or lstm)` and the like."""
    found = []
    for n in cited:
        if n.our_task is not None and n.our_architecture is not None:
            at = " or ".join(map(str, n.our_task.length or ())) or "any length"
            found.append(f"{n.our_task.task} at {at} ({' or '.join(n.our_architecture.ours)})")
    return ", ".join(dict.fromkeys(found)) or "nothing that has a task and an architecture here"
