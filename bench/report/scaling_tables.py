"""Exponents and crossovers as text, Markdown and CSV. Equal rows give equal bytes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal, TypeAlias, get_args

import pandas as pd

from bench.errors import unknown
from bench.records.markdown import count, escape, number, table
from bench.report.crossover import Comparison, crossovers
from bench.report.scaling import Exponent, all_exponents
from bench.report.series import QUANTITIES, Series
from bench.report.statistics import kernel_class

Format: TypeAlias = Literal["text", "md", "csv"]
FORMATS: tuple[Format, ...] = get_args(Format)
REFERENCE_MARK = "†"
EXPONENT_HEADINGS = (
    *("architecture", "exponent", "95% interval", "R²", "lengths", "points"),
    *("kernel", "batch", "precision", "hardware", "remark"),
)
CROSSOVER_HEADINGS = ("pair", "crossover", "lengths", "smallest ratio", "remark")
LEGEND = f"""\
- **Exponent**: p of a + b T^p, the cost of T tokens, on the longest range of long lengths \
that this law fits; interval by bootstrap over the points' own intervals and the scatter \
around the law.
- **Crossover**: between measured lengths, straight in log-log. What is smaller than the smallest \
ratio (1.1, or three times what one cell differs from itself) is no difference.
- **{REFERENCE_MARK}**: plain PyTorch reference. Its times say how fast that code is, not how fast \
the architecture could be.
"""


def scaling(frame: pd.DataFrame, format: Format) -> str:  # noqa: A002 (what it is)
    """All exponents of a tidy table; in Markdown the crossovers of all pairs too."""
    found = all_exponents(frame)
    if format == "csv":
        return _csv(map(_exponent_record, found))
    if format == "text":
        return "".join(f"{_exponent_text(one)}\n" for one in found) or "nothing measured\n"
    if format == "md":
        return _markdown(frame, found)
    raise unknown("format", format, FORMATS)


def crossover(found: Sequence[Comparison], format: Format) -> str:  # noqa: A002
    """Comparisons, a line each; in CSV a line for each crossing."""
    if format == "csv":
        return _csv(record for one in found for record in _crossing_records(one))
    if format == "text":
        return "".join(f"{_comparison_text(one)}\n" for one in found) or "nothing measured\n"
    if format == "md":
        return _crossover_table(found) if found else "nothing measured\n"
    raise unknown("format", format, FORMATS)


def _markdown(frame: pd.DataFrame, found: Sequence[Exponent]) -> str:
    parts = []
    for quantity in QUANTITIES.values():
        ours = [one for one in found if one.series.quantity is quantity]
        pairs = crossovers(frame, quantity)
        for task in dict.fromkeys(one.series.task for one in ours):
            lines = [_exponent_line(one) for one in ours if one.series.task == task]
            title = f"### {escape(task)}: {quantity.title} against length"
            parts.append(f"{title}\n\n{table(EXPONENT_HEADINGS, lines, right=(1, 3, 5))}")
            if of_task := [pair for pair in pairs if pair.first.task == task]:
                parts.append(_crossover_table(of_task))
    return "\n".join([*parts, LEGEND]) if parts else "nothing measured\n"


def _exponent_line(one: Exponent) -> list[str]:
    series = one.series
    precision, _, hardware = series.alike[2:]
    remarks = filter(None, (one.missing, one.remark, series.problems))
    return [
        _name(series),
        "missing" if one.value is None else f"{one.value:.2f}",
        _interval(one),
        "" if one.r_squared is None else f"{one.r_squared:.4f}",
        _lengths(one.shortest, one.longest),
        count(one.n_lengths or None),
        escape(series.kernel),
        series.batch,
        escape(precision),
        escape(hardware),
        escape("; ".join(remarks)),
    ]


def _crossover_table(found: Sequence[Comparison]) -> str:
    lines = [
        [
            " and ".join(map(_name, one.both)),
            escape(one.verdict),
            _lengths(*(one.lengths[0], one.lengths[-1]) if one.lengths else (None, None)),
            number(one.smallest, 3),
            escape(one.remark),
        ]
        for one in found
    ]
    return table(CROSSOVER_HEADINGS, lines, right=(3,))


def _exponent_text(one: Exponent) -> str:
    series = one.series
    about = f"{series.task}: {series.architecture}, {series.quantity.title}"
    if one.value is None:
        return f"{about}: missing, {one.missing}"
    told = f"{about}: T^{one.value:.2f} {_interval(one)} over {_lengths(one.shortest, one.longest)}"
    remarks = "".join(f"; {remark}" for remark in (one.remark, series.problems) if remark)
    return f"{told}, {one.n_lengths} lengths, kernel {series.kernel or 'unknown'}{remarks}"


def _comparison_text(one: Comparison) -> str:
    names = " and ".join(series.architecture for series in one.both)
    remark = f" ({one.remark})" if one.remark else ""
    return f"{one.first.task}: {names}, {one.first.quantity.title}: {one.verdict}{remark}"


def _exponent_record(one: Exponent) -> dict[str, object]:
    series = one.series
    task, setting, precision, accelerator, hardware = series.alike
    return {
        "quantity": series.quantity.name,
        "task": task,
        "architecture": series.architecture,
        "exponent": one.value,
        "exponent_low": one.low,
        "exponent_high": one.high,
        "r_squared": one.r_squared,
        "shortest": one.shortest,
        "longest": one.longest,
        "n_lengths": one.n_lengths,
        "kernel": series.kernel,
        "batch": series.batch,
        "setting": setting,
        "precision": precision,
        "accelerator": accelerator,
        "hardware": hardware,
        "remark": one.remark,
        "missing": one.missing,
        "problems": series.problems,
    }


def _crossing_records(one: Comparison) -> list[dict[str, object]]:
    common: dict[str, object] = {
        "quantity": one.first.quantity.name,
        "task": one.first.task,
        "first": one.first.architecture,
        "second": one.second.architecture,
        "first_kernel": one.first.kernel,
        "second_kernel": one.second.kernel,
        "longest": one.lengths[-1] if one.lengths else None,
        "smallest_ratio": one.smallest,
        "verdict": one.verdict,
        "remark": one.remark,
    }
    none: dict[str, object] = {
        "length": None,
        "length_low": None,
        "length_high": None,
        "cheaper_from_there": None,
    }
    crossings = [
        {
            "length": crossing.length,
            "length_low": crossing.low,
            "length_high": crossing.high,
            "cheaper_from_there": crossing.cheaper,
        }
        for crossing in one.crossings
    ]
    return [common | crossing for crossing in crossings or [none]]


def _csv(records: Iterable[dict[str, object]]) -> str:
    return pd.DataFrame.from_records(list(records)).to_csv(index=False, lineterminator="\n")


def _name(series: Series) -> str:
    mark = f" {REFERENCE_MARK}" if kernel_class(series.kernel) == "reference" else ""
    return f"{escape(series.architecture)}{mark}"


def _interval(one: Exponent) -> str:
    return "" if one.low is None or one.high is None else f"[{one.low:.2f}, {one.high:.2f}]"


def _lengths(shortest: int | None, longest: int | None) -> str:
    return f"{count(shortest)} to {count(longest)}" if shortest is not None else ""
