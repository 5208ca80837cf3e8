"""Length generalisation as text, Markdown and CSV. Equal rows give equal bytes."""

from __future__ import annotations

from typing import Any, Literal, TypeAlias, get_args

import pandas as pd

from bench.errors import unknown
from bench.records.markdown import between, count, number, with_interval
from bench.records.summary import CELL, lines_of
from bench.report.document import Heading, Items, Paragraph, Part, Table, as_markdown
from bench.report.generalisation import TESTED, by_length, summary

Format: TypeAlias = Literal["text", "md", "csv"]
FORMATS: tuple[Format, ...] = get_args(Format)
NOTHING = "no run was tested at other lengths: name them in `test_lengths`"
LEGEND = (
    Paragraph(
        "mean over seeds at each tested length, with half the 95% interval. The weights are those "
        "of the length that a model was trained at.",
        "Scores",
    ),
    Paragraph(
        "the longest tested length up to which no score is worse than the threshold: chance, and "
        "from there {share:g} of the way to the score at the training length; or as asked. ≥: no "
        "tested length failed.",
        "Effective length",
    ),
    Paragraph(
        "mean over the tested lengths beyond the training length, where every seed has them all.",
        "Beyond",
    ),
)


def render(
    frame: pd.DataFrame,
    format: Format,  # noqa: A002 (what it is)
    share: float,
    threshold: float | None,
) -> str:
    """The scores of a tidy table at other lengths; in CSV a line for each tested length."""
    if format not in FORMATS:
        raise unknown("format", format, FORMATS)
    cells, lengths = summary(frame, share=share, threshold=threshold), by_length(frame)
    if format == "csv":
        of_cells = {"score": "score_at_training_length", "n_seeds": "n_seeds_with_all_lengths"}
        both = lengths.merge(cells.drop(columns="n_wanted").rename(columns=of_cells), on=CELL)
        return both.to_csv(index=False, lineterminator="\n", float_format="%.10g")
    if cells.empty:
        return f"{NOTHING}\n"
    if format == "text":
        return "".join(f"{_text(cell)}\n" for cell in lines_of(cells))
    parts: list[Part] = []
    for task, group in cells.groupby("task", sort=False):
        metric, higher = group["metric"].iloc[0], group["higher_is_better"].iloc[0]
        direction = f"{'higher' if higher else 'lower'} is better"
        parts.append(Heading(3, f"{task}: {metric} by tested length ({direction})"))
        parts.append(_table(group, lengths[lengths["task"] == task]))
    legend = [Paragraph(one.text.format(share=share), one.term) for one in LEGEND]
    return as_markdown([*parts, Items(legend)])


def _table(cells: pd.DataFrame, lengths: pd.DataFrame) -> Table:
    tested = sorted(set(lengths[TESTED]))
    headings = [
        *("architecture", "trained at", "seeds with all", *map(count, tested)),
        *("effective length", "beyond", "missing"),
    ]
    at = {(*(line[key] for key in CELL), line[TESTED]): line for line in lines_of(lengths)}
    lines = []
    for cell in lines_of(cells):
        key = tuple(cell[name] for name in CELL)
        scores = [_score(at.get((*key, length))) for length in tested]
        reasons = (cell["effective_missing"], cell["beyond_missing"])
        lines.append(
            [
                str(cell["architecture"]),
                count(cell["length"]),
                f"{cell['n_seeds']} of {cell['n_wanted']}",
                *scores,
                _effective(cell),
                with_interval(cell["beyond"], cell["beyond_low"], cell["beyond_high"]),
                "; ".join(reason for reason in reasons if reason),
            ]
        )
    return Table(headings, lines, frozenset(range(1, len(headings) - 1)))


def _score(line: dict[str, Any] | None) -> str:
    return (
        "" if line is None else with_interval(line["score"], line["score_low"], line["score_high"])
    )


def _effective(cell: dict[str, Any]) -> str:
    text = count(cell["effective_length"])
    return f"≥ {text}" if text and cell["effective_is_a_bound"] else text


def _text(cell: dict[str, Any]) -> str:
    """One line: `mqar at 128: lstm, effective length 256 (threshold 0.81); beyond ...`."""
    about = f"{cell['task']} at {count(cell['length'])}: {cell['architecture']}"
    if effective := _effective(cell):
        held = f"effective length {effective} (threshold {number(cell['threshold'])})"
    else:
        held = f"no effective length: {cell['effective_missing']}"
    ends = (number(cell["beyond_low"]), number(cell["beyond_high"]))
    beyond = between(number(cell["beyond"]), *ends) or f"missing, {cell['beyond_missing']}"
    seeds = f"{cell['n_seeds']} of {cell['n_wanted']} seeds with all lengths"
    return " ".join(f"{about}, {held}; beyond {beyond}; {seeds}".split())
