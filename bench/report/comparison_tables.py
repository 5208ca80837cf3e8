"""The comparison of two studies as Markdown, what is worse first, and as CSV."""

from __future__ import annotations

import math
from collections import Counter
from typing import Literal, TypeAlias, get_args

import pandas as pd

from bench.errors import unknown
from bench.records.markdown import between, bytes_text, count, number
from bench.report.comparison import QUANTITIES, Change, Comparison, Verdict
from bench.report.document import Heading, Paragraph, Part, Table, as_markdown

Format: TypeAlias = Literal["md", "csv"]
FORMATS: tuple[Format, ...] = get_args(Format)
HEADINGS = ("task", "length", "architecture", "what", "before", "after", "change", "remark")
CSV_COLUMNS = (
    *("task", "length", "architecture", "quantity", "higher_is_better"),
    *("before", "after", "change", "change_low", "change_high", "verdict", "remark"),
)
RIGHT = frozenset((1, 4, 5, 6))
ORDER: tuple[Verdict, ...] = get_args(Verdict)
TESTED: tuple[Verdict, ...] = ("worse", "better", "no difference")
FALSE_SHARE = 0.05  # of cells without a change, outside of their 95% interval by chance
TITLES: dict[Verdict, str] = {
    "worse": "Worse",
    "lost": "Lost: a value before, and none after",
    "better": "Better",
    "undecided": "Undecided",
    "no difference": "No difference",
    "gained": "Gained: no value before",
    "only before": "In the first study only",
    "only after": "In the second study only",
}


def render(found: Comparison, names: tuple[str, str], format: Format) -> str:  # noqa: A002
    """The comparison of studies of these names. Equal rows give equal bytes."""
    if format == "csv":
        records = [_record(one) for one in found.changes]
        table = pd.DataFrame.from_records(records, columns=list(CSV_COLUMNS))
        return table.to_csv(index=False, lineterminator="\n", float_format="%.10g")
    if format == "md":
        return as_markdown(_parts(found, names))
    raise unknown("format", format, FORMATS)


def regressions(found: Comparison, share: float) -> str:
    """What CI is told: how many became worse by more than a share, and each of them."""
    bad = found.regressions(share)
    if not bad:
        return f"no regression beyond {_percent(share)}\n"
    told = "".join(
        f"- {one.architecture} on {one.task} at {count(one.length)}: {one.quantity.title} "
        f"{'lost' if one.verdict == 'lost' else _change(one)}\n"
        for one in bad
    )
    plural = "regression" if len(bad) == 1 else "regressions"
    return f"{len(bad)} {plural} beyond {_percent(share)}:\n{told}"


def _parts(found: Comparison, names: tuple[str, str]) -> list[Part]:
    parts: list[Part] = [Heading(1, f"From {names[0]} to {names[1]}")]
    if not found.changes:
        return [*parts, Paragraph("Neither study has a number.")]
    for quantity in QUANTITIES:
        counts = Counter(one.verdict for one in found.changes if one.quantity is quantity)
        if counts:
            told = ", ".join(f"{counts[verdict]} {verdict}" for verdict in ORDER if counts[verdict])
            tested = sum(counts[verdict] for verdict in TESTED)
            if quantity.kind == "score" and tested:
                told += (
                    f". Each cell is tested for itself: of {tested} that are the same about "
                    f"{number(FALSE_SHARE * tested, 2)} would be called better or worse"
                )
            parts.append(Paragraph(f"{told}.", f"{quantity.title}, {counts.total()} cells"))
    if found.unlike:
        parts.append(Paragraph(f"speeds and memory are of different {found.unlike}.", "warning"))
    for verdict in ORDER:
        if lines := [_line(one) for one in found.changes if one.verdict == verdict]:
            parts += [Heading(2, TITLES[verdict]), Table(HEADINGS, lines, RIGHT)]
    return parts


def _line(one: Change) -> list[str]:
    texts = {"score": number, "speed": lambda value: count(value, 3), "memory": bytes_text}
    text = texts[one.quantity.kind]
    return [
        one.task,
        count(one.length),
        one.architecture,
        one.quantity.title,
        text(one.before),
        text(one.after),
        _change(one),
        one.remark,
    ]


def _change(one: Change) -> str:
    """`-5.6% [-7.1%, -4.0%]`."""
    if one.change is None:
        return ""
    if math.isinf(one.change):
        return "from 0"
    ends = ("" if end is None else _percent(end, sign=True) for end in (one.low, one.high))
    return between(_percent(one.change, sign=True), *ends)


def _percent(share: float, *, sign: bool = False) -> str:
    if share == 0:
        return "0%"
    text = f"{100 * share:{'+' if sign else ''}.{1 if abs(share) < 1 else 0}f}"
    return f"{text.removesuffix('.0')}%"


def _record(one: Change) -> dict[str, object]:
    return {
        "task": one.task,
        "length": one.length,
        "architecture": one.architecture,
        "quantity": one.quantity.column,
        "higher_is_better": one.higher_is_better,
        "before": one.before,
        "after": one.after,
        "change": None if one.change is None or math.isinf(one.change) else one.change,
        "change_low": one.low,
        "change_high": one.high,
        "verdict": one.verdict,
        "remark": one.remark,
    }
