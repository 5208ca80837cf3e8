"""The leaderboard of a study: `LEADERBOARD.md` to read, `leaderboard.csv` to compute with.

A pure function of the study and its rows: no time and no path is in it, so a copy in version
control can be checked.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from bench.records import files
from bench.records.difference import check_alike
from bench.records.expected import complete
from bench.records.markdown import between, bytes_text, count, escape, number, table
from bench.records.store import Store
from bench.records.summary import lines_of, problems_of, summarise
from bench.records.table import tally
from bench.report import statistics
from bench.report.origin import origin
from bench.study import Study

MARKDOWN_FILE = "LEADERBOARD.md"
CSV_FILE = "leaderboard.csv"
HEADINGS = (
    *("rank", "architecture", "test score", "seeds"),
    *("train tokens/s", "infer tokens/s", "peak MiB", "state bytes", "parameters"),
    *("settings tried", "learning rate", "kernel", "precision", "problems"),
)
TEXT_COLUMNS = (1, 11, 12, 13)
REFERENCE_MARK = "†"
NOT_RANKED = "–"
LEGEND = """\
## How to read this

- **Score**: mean over seeds of the test score at the setting with the best mean val score, with \
its 95% interval (percentile bootstrap over seeds; with three seeds that is their range).
- **Rank**: one more than the number of architectures that are clearly better, their whole \
interval lying on the better side. Equal ranks: the seeds cannot tell them apart. One seed: no \
interval, no rank.
- **Seeds**: those with a score, of those asked for. Runs without a score are never averaged as 0.
- **Speed, memory**: measured alone on the machine; median with its 95% bootstrap interval. Two \
speeds differ if their ratio is at least 1.1, and its excess over 1 three times that of the \
machine's noise; a smaller ratio is no difference.
- **†**: plain PyTorch reference. Its speed says how fast that code is, not how fast the \
architecture could be; do not compare it with speeds of library kernels.
"""


def render(study: Study, store: Store, *, across: bool = False) -> dict[str, bytes]:
    """The content of both files by name.

    Raises:
        UserError: speeds of different machines, precisions or world sizes would be side by side,
            and `across` does not ask for it.
    """
    frame = complete(study, store)
    cells = statistics.with_ranks(summarise(frame))
    check_alike(cells, across)
    return {MARKDOWN_FILE: _markdown(study, frame, cells).encode(), CSV_FILE: _csv(cells).encode()}


def write(study: Study, store: Store, *, across: bool = False) -> list[Path]:
    """Write both files into the study's folder."""
    content = render(study, store, across=across)
    for name, data in content.items():
        files.write_atomically(store.folder / name, data)
    return [store.folder / name for name in content]


def check(study: Study, store: Store, *, across: bool = False) -> list[Path]:
    """The files that are missing or do not say what the rows say now."""
    content = render(study, store, across=across)
    paths = {store.folder / name: data for name, data in content.items()}
    return [path for path, data in paths.items() if not path.is_file() or path.read_bytes() != data]


def _csv(cells: pd.DataFrame) -> str:
    """One line per cell. Ten digits, so that the last bit of a mean is no difference."""
    first = ["task", "length", "rank", "architecture"]
    ordered = cells[[*first, *(name for name in cells.columns if name not in first)]]
    return ordered.to_csv(index=False, lineterminator="\n", float_format="%.10g")


def _markdown(study: Study, frame: pd.DataFrame, cells: pd.DataFrame) -> str:
    parts = [f"# {escape(study.title)}\n"]
    if study.question:
        parts.append(f"{escape(study.question)}\n")
    parts.append(tally(frame))
    parts.append(_missing(frame))
    if (cells["n_wanted"] > 0).any():
        parts.append(_overall(cells))
    for _, group in cells.groupby(["task", "length"], sort=False):
        parts.append(_ranking(group))
    parts.append(LEGEND)
    parts.append("## Where the rows come from\n")
    parts.append("".join(f"- {escape(line)}\n" for line in origin(frame)))
    return "\n".join(filter(None, parts))


def _missing(frame: pd.DataFrame) -> str:
    missing = frame[frame["status"] == "missing"]
    if missing.empty:
        return ""
    cells = missing.groupby(["task", "length", "architecture"], sort=False).size()
    listed = [f"{a} on {t} at {n}" for t, n, a in cells.index[:10]]
    more = f" and {len(cells) - 10} more cells" if len(cells) > 10 else ""
    return f"Missing: {escape('; '.join(listed))}{more}.\n"


def _overall(cells: pd.DataFrame) -> str:
    lines = [
        [
            "" if one.mean_rank is None else f"{one.mean_rank:.2f}",
            escape(one.architecture),
            "" if one.mean_rank is None else f"{one.n_first} of {one.n_cells}",
            escape(f"refused: {one.refused}" if one.refused else ""),
        ]
        for one in statistics.overall(cells)
    ]
    headings = ("mean rank", "architecture", "first or tied", "why no mean")
    return f"## Overall, over tasks and lengths\n\n{table(headings, lines, right=(0, 2))}"


def _ranking(cells: pd.DataFrame) -> str:
    cells = statistics.by_score(cells)
    records = lines_of(cells)
    lines = [_line(cell) for cell in records]
    title = f"## {escape(records[0]['task'])}, length {records[0]['length']:,}"
    metric, higher = records[0]["metric"], records[0]["higher_is_better"]
    if isinstance(metric, str):
        direction = "" if pd.isna(higher) else f" ({'higher' if higher else 'lower'} is better)"
        title += f": {escape(metric)}{direction}"
    chance = records[0]["chance"]
    if not pd.isna(chance):
        better = [
            not pd.isna(cell["score"]) and (cell["score"] > chance) == bool(higher)
            for cell in records
        ]
        line = [NOT_RANKED, "*chance*", number(chance), *[""] * (len(HEADINGS) - 3)]
        lines.insert(sum(better), line)
    right = [i for i in range(len(HEADINGS)) if i not in TEXT_COLUMNS]
    return f"{title}\n\n{table(HEADINGS, lines, right)}{_warning(cells)}"


def _warning(cells: pd.DataFrame) -> str:
    """Say so where one ranking holds what was not made alike."""
    what = {
        "hardware": "measured on {}",
        "precision": "measured at {}",
        "world_size": "measured with {} ranks",
        "tokens_per_batch": "measured with {} tokens a batch",
        "train_precision": "trained at {}",
    }
    parts = []
    for column, sentence in what.items():
        found = sorted(set(cells[column].dropna()))
        if len(found) > 1:
            texts = [value if isinstance(value, str) else count(value) for value in found]
            parts.append(sentence.format(" and ".join(texts)))
    return f"\n**Not alike:** {escape('; '.join(parts))}.\n" if parts else ""


def _line(cell: dict[str, Any]) -> list[str]:
    reference = statistics.kernel_class(cell["kernel"]) == "reference"
    score = between(number(cell["score"]), number(cell["score_low"]), number(cell["score_high"]))
    return [
        NOT_RANKED if pd.isna(cell["rank"]) else str(cell["rank"]),
        escape(cell["architecture"]),
        score,
        f"{cell['n_seeds']} of {cell['n_wanted']}" if cell["n_wanted"] else "not trained",
        _speed(cell, "train_tokens_per_s", reference),
        _speed(cell, "infer_tokens_per_s", reference),
        bytes_text(cell["peak_bytes"]),
        count(cell["state_bytes"]),
        count(cell["parameters"]),
        str(cell["n_settings"] or ""),
        _rates(cell),
        escape(_either(cell["kernel"], cell["train_kernel"])),
        escape(_either(cell["precision"], cell["train_precision"])),
        escape(problems_of(cell)),
    ]


def _speed(cell: dict[str, Any], name: str, reference: bool) -> str:
    ends = (count(cell[f"{name}_{end}"], 3) for end in ("low", "high"))
    text = between(count(cell[name], 3), *ends)
    return f"{text} {REFERENCE_MARK}" if text and reference else text


def _rates(cell: dict[str, Any]) -> str:
    """The chosen learning rate, and the window if several were tried."""
    if pd.isna(cell["learning_rate"]):
        return ""
    low, high = cell["learning_rate_low"], cell["learning_rate_high"]
    window = "" if low == high else f" of [{low:g}, {high:g}]"
    return f"{cell['learning_rate']:g}{window}"


def _either(*values: object) -> str:
    """The distinct kernels (or precisions) of measuring and training."""
    return " / ".join(dict.fromkeys(value for value in values if isinstance(value, str)))
