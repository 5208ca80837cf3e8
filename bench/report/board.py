"""What a leaderboard says, as a document: overall, each task and length, pairs, how to read it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import pandas as pd

from bench.records.markdown import between, bytes_text, count, number
from bench.records.shown import SHOWN
from bench.records.summary import CELL, lines_of, problems_of
from bench.records.table import tally
from bench.report import pair_tables, published, statistics
from bench.report.document import Cell, Heading, Items, Paragraph, Part, Table
from bench.report.origin import origin
from bench.report.paired import Pair
from bench.study import Study

HEADINGS = (
    *("rank", "architecture", "test score", "seeds"),
    *("train tokens/s", "infer tokens/s", "peak MiB", "state bytes", "parameters"),
    *("settings tried", "learning rate", "kernel", "precision", "problems", "rows"),
)
RIGHT = frozenset(range(len(HEADINGS))) - {1, 11, 12, 13}
SCORE = HEADINGS.index("test score")
OVERALL_HEADINGS = (
    *("mean rank", "architecture", "normalised score", "runs", "first or tied", "why no mean"),
)
REFERENCE_MARK = "†"
NOT_RANKED = "–"
N_MISSING = 10  # cells that are named
Record: TypeAlias = dict[str, Any]
N_HINTED = 6  # ids that are shown beside a link
LEGEND = (
    Paragraph(
        "mean over seeds of the test score at the setting with the best mean val score, with its "
        "95% interval (bootstrap over seeds, widened for how few they are). What other test "
        "examples would do is not in it.",
        "Score",
    ),
    Paragraph(
        "one more than the number of architectures that are clearly better, their whole interval "
        "lying on the better side. Equal ranks: the seeds cannot tell them apart. One seed: no "
        "interval, no rank.",
        "Rank",
    ),
    Paragraph(
        "those with a score, of those asked for. Runs without a score are never averaged as 0.",
        "Seeds",
    ),
    Paragraph(
        "the best answer that ignores the input, or blind guessing; and a trivial rule that reads "
        "a part of it, where the task has one and the rows say its score.",
        "Chance, baseline",
    ),
    Paragraph(
        "0 is chance and 1 perfect. Overall it is the interquartile mean over all runs, every task "
        "and length weighing the same, with its 95% interval (bootstrap of the seeds within each, "
        "widened for how few they are). "
        "No mean is taken over cells of which one is missing.",
        "Normalised score",
    ),
    Paragraph(
        "measured alone on the machine; median with its 95% bootstrap interval. Two speeds differ "
        "if their ratio is at least 1.1, and its excess over 1 three times that of the machine's "
        "noise; a smaller ratio is no difference.",
        "Speed, memory",
    ),
    Paragraph(
        "plain PyTorch reference. Its speed says how fast that code is, not how fast the "
        "architecture could be; do not compare it with speeds of library kernels.",
        REFERENCE_MARK,
    ),
    Paragraph(
        "how many runs a line is made of, those that trained and the one that measured. The link "
        "leads to the line of the CSV file with their ids.",
        "Rows",
    ),
)


@dataclass(frozen=True, kw_only=True)
class Board:
    """All that a leaderboard is made of."""

    study: Study
    frame: pd.DataFrame  # the tidy table
    cells: pd.DataFrame  # its summary, with ranks, `score_rows` and the line of the CSV file
    overall: Sequence[statistics.Overall]
    pairs: Sequence[Pair]
    reported: Sequence[published.Reported]
    csv_file: str


def parts(board: Board) -> Iterator[Part]:
    """The document."""
    yield Heading(1, board.study.title)
    if board.study.question:
        yield Paragraph(board.study.question)
    yield Paragraph(tally(board.frame).strip())
    yield from _missing(board.frame)
    if board.overall:
        yield Heading(2, "Overall, over tasks and lengths")
        yield Table(
            OVERALL_HEADINGS, [_mean(one) for one in board.overall], frozenset((0, 2, 3, 4))
        )
    yield from _pairs(board)
    groups: dict[tuple[str, int], list[Record]] = {}
    for cell in lines_of(board.cells):
        groups.setdefault((cell["task"], cell["length"]), []).append(cell)
    for cells in groups.values():
        yield from _ranking(cells, board.csv_file)
    yield from published.parts(board.reported)
    yield Heading(2, "How to read this")
    yield Items(LEGEND)
    yield Heading(2, "Where the rows come from")
    yield Items([Paragraph(line) for line in origin(board.frame)])


def _missing(frame: pd.DataFrame) -> Iterator[Part]:
    missing = frame[frame["status"] == "missing"]
    if missing.empty:
        return
    cells = missing.groupby(["task", "length", "architecture"], sort=False).size()
    listed = [f"{a} on {t} at {n}" for t, n, a in cells.index[:N_MISSING]]
    more = f" and {len(cells) - N_MISSING} more cells" if len(cells) > N_MISSING else ""
    yield Paragraph(f"Missing: {'; '.join(listed)}{more}.")


def _mean(one: statistics.Overall) -> list[str]:
    reasons = dict.fromkeys(filter(None, (one.refused, one.score_refused)))
    score = one.score
    return [
        "" if one.mean_rank is None else f"{one.mean_rank:.2f}",
        one.architecture,
        "" if score is None else _scored(score.value, score.low, score.high, score.low is None),
        "" if score is None else count(score.n_runs),
        "" if one.mean_rank is None else f"{one.n_first} of {one.n_cells}",
        f"refused: {'; '.join(reasons)}" if reasons else "",
    ]


def _pairs(board: Board) -> Iterator[Part]:
    """The architecture with the best normalised score against each of the others."""
    known = [one for one in board.overall if one.score is not None]
    if len(known) < 2:
        return
    leader = max(known, key=lambda one: one.score.value if one.score else 0.0).architecture
    found = [one.seen_from(leader) for one in board.pairs if leader in (one.first, one.second)]
    yield Heading(2, f"Is {leader} better than the others?")
    yield pair_tables.table_of(found)
    yield pair_tables.note(board.pairs)


def _ranking(cells: Sequence[Record], csv_file: str) -> Iterator[Part]:
    """The cells of one task and length, the best mean first, those without a score last."""
    said = [cell["higher_is_better"] for cell in cells if pd.notna(cell["higher_is_better"])]
    up = bool(said[0]) if said else True
    known = [cell for cell in cells if pd.notna(cell["score"])]
    records = sorted(known, key=lambda cell: float(cell["score"]), reverse=up)
    records += [cell for cell in cells if pd.isna(cell["score"])]
    first = records[0]
    title = f"{first['task']}, length {first['length']:,}"
    if isinstance(first["metric"], str):
        direction = f" ({'higher' if up else 'lower'} is better)" if said else ""
        title += f": {first['metric']}{direction}"
    yield Heading(2, title)
    lines = [_line(cell, csv_file) for cell in records]
    yield Table(HEADINGS, _with_levels(lines, records, up), RIGHT)
    yield from _warning(records)
    instruments = [[cell["architecture"], *(one.text(cell) for one in SHOWN)] for cell in records]
    if any(any(line[1:]) for line in instruments):
        headings = ["architecture", *(one.heading for one in SHOWN)]
        measured = [line for line in instruments if any(line[1:])]
        yield Table(headings, measured, frozenset(range(1, len(headings))))


def _with_levels(
    lines: list[list[str | Cell]], records: Sequence[Record], higher: bool
) -> list[list[str | Cell]]:
    """The lines of cells, the best first, and among them chance and baseline where they belong."""
    levels = []
    for name in ("chance", "baseline"):
        value = next((cell[name] for cell in records if pd.notna(cell[name])), None)
        if value is None or all(pd.isna(cell["score"]) for cell in records):
            continue
        rule = records[0]["baseline_rule"]
        told = f"{name}: {rule}" if name == "baseline" and isinstance(rule, str) else name
        line: list[str | Cell] = [
            NOT_RANKED,
            Cell(told, emphasis=True),
            *[""] * (len(HEADINGS) - 2),
        ]
        line[SCORE] = number(value)
        n_better = sum(
            bool(cell["score"] > value if higher else cell["score"] < value)
            for cell in records
            if pd.notna(cell["score"])
        )
        levels.append((n_better, value if higher else -value, line))
    for n_better, _, line in sorted(levels, key=lambda level: (level[0], -level[1]), reverse=True):
        lines.insert(n_better, line)
    return lines


def _warning(cells: Sequence[Record]) -> Iterator[Part]:
    """Say so where one ranking holds what was not made alike."""
    what = {
        "hardware": "measured on {}",
        "precision": "measured at {}",
        "world_size": "measured with {} ranks",
        "tokens_per_batch": "measured with {} tokens a batch",
        "train_precision": "trained at {}",
    }
    found = []
    for column, sentence in what.items():
        values = sorted({cell[column] for cell in cells if pd.notna(cell[column])})
        if len(values) > 1:
            texts = [value if isinstance(value, str) else count(value) for value in values]
            found.append(sentence.format(" and ".join(texts)))
    if found:
        yield Paragraph(f"{'; '.join(found)}.", "Not alike")


def _line(cell: Record, csv_file: str) -> list[str | Cell]:
    reference = statistics.kernel_class(cell["kernel"]) == "reference"
    return [
        NOT_RANKED if pd.isna(cell["rank"]) else str(cell["rank"]),
        cell["architecture"],
        _scored(cell["score"], cell["score_low"], cell["score_high"], cell["n_seeds"] == 1),
        f"{cell['n_seeds']} of {cell['n_wanted']}" if cell["n_wanted"] else "not trained",
        _speed(cell, "train_tokens_per_s", reference),
        _speed(cell, "infer_tokens_per_s", reference),
        bytes_text(cell["peak_bytes"]),
        count(cell["state_bytes"]),
        count(cell["parameters"]),
        str(cell["n_settings"] or ""),
        _rates(cell),
        _either(cell["kernel"], cell["train_kernel"]),
        _either(cell["precision"], cell["train_precision"]),
        problems_of(cell),
        _rows(cell, csv_file),
    ]


def _scored(value: object, low: object, high: object, one_seed: bool) -> str:
    text = between(number(value), number(low), number(high))
    return f"{text} (one seed)" if text and one_seed else text


def _speed(cell: Record, name: str, reference: bool) -> str:
    ends = (count(cell[f"{name}_{end}"], 3) for end in ("low", "high"))
    text = between(count(cell[name], 3), *ends)
    return f"{text} {REFERENCE_MARK}" if text and reference else text


def _rates(cell: Record) -> str:
    """The chosen learning rate, and the window if several were tried."""
    if pd.isna(cell["learning_rate"]):
        return ""
    low, high = cell["learning_rate_low"], cell["learning_rate_high"]
    window = "" if low == high else f" of [{low:g}, {high:g}]"
    return f"{cell['learning_rate']:g}{window}"


def _either(*values: object) -> str:
    """The distinct kernels (or precisions) of measuring and training."""
    return " / ".join(dict.fromkeys(value for value in values if isinstance(value, str)))


def _rows(cell: Record, csv_file: str) -> str | Cell:
    """`2 + 1`, leading to the line with the ids."""
    scored = cell["score_rows"].split() if isinstance(cell["score_rows"], str) else []
    measured = [cell["measured_id"]] if isinstance(cell["measured_id"], str) else []
    if not scored and not measured:
        return ""
    shown = [*scored[:N_HINTED], *(["..."] if len(scored) > N_HINTED else []), *measured]
    text = f"{len(scored)} + {len(measured)}" if measured else str(len(scored))
    return Cell(text, link=f"{csv_file}#L{cell['csv_line']}", hint=" ".join(shown))


def score_rows(runs: pd.DataFrame) -> pd.DataFrame:
    """CELL and `score_rows`: the ids of the runs behind each score, separated by spaces."""
    return runs.groupby(CELL, sort=False)["id"].agg(" ".join).reset_index(name="score_rows")
