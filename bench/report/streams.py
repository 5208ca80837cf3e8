"""What a token of a stream costs at each position: time, state, and whether they grow.

From the tidy table of runs that measured `streaming`. What was not measured is an empty cell, and
the remark says why.
"""

from __future__ import annotations

import re

import pandas as pd

from bench.records.markdown import between, count, escape, number, table
from bench.report.statistics import kernel_class

STREAMS = re.compile(r"(stream(\d*))_(?:us_p50|state_bytes)_at_(\d+)")
NUMBERS = (
    *("us_p50", "us_p50_low", "us_p50_high", "us_p99", "state_bytes", "drift"),
    *("us_per_1000_tokens_read", "state_bytes_per_token"),
)
KEYS = ("task", "length", "architecture")
LEGEND = """\
- **At P**: microseconds of one step after P tokens, median and its 95% interval. Several streams \
side by side wait for it together.
- **Time**, **state**: flat, or growing with the tokens read. Time grows if its slope does with \
its whole interval, and the last position takes longer than the first by more than noise.
- **Drift**: largest difference from the outputs of the parallel pass, relative to its largest \
output.
"""


def streams(frame: pd.DataFrame) -> pd.DataFrame:
    """One line per measured cell, number of streams and position, in the order of the table."""
    lines = []
    for _, run in frame.iterrows():
        for prefix, n_streams, position in _measured(run):
            lines.append(
                {
                    **{key: run[key] for key in KEYS},
                    "kernel": run["kernel"],
                    "precision": run["precision"],
                    "hardware": run["hardware"],
                    "n_streams": n_streams,
                    "position": position,
                    **{
                        f"us_{part}": run.get(f"{prefix}_us_{column}")
                        for part, column in (
                            ("p50", f"p50_at_{position}"),
                            ("p50_low", f"p50_at_{position}_low"),
                            ("p50_high", f"p50_at_{position}_high"),
                            ("p99", f"p99_at_{position}"),
                        )
                    },
                    "state_bytes": run.get(f"{prefix}_state_bytes_at_{position}"),
                    "us_per_1000_tokens_read": run.get(f"{prefix}_us_per_1000_tokens_read"),
                    "state_bytes_per_token": run.get(f"{prefix}_state_bytes_per_token"),
                    "time": run.get(f"{prefix}_latency_verdict"),
                    "state": run.get(f"{prefix}_state_verdict"),
                    "drift": run.get(f"{prefix}_drift_at_{position}"),
                    "missing": run.get(f"{prefix}_at_{position}_missing"),
                    "id": run["id"],
                }
            )
    found = pd.DataFrame.from_records(lines)
    # A text among the numbers is no value.
    return found.assign(
        **{name: pd.to_numeric(found[name], errors="coerce") for name in NUMBERS if name in found}
    )


def as_csv(frame: pd.DataFrame) -> str:
    """The same as CSV."""
    return streams(frame).to_csv(index=False, lineterminator="\n")


def as_markdown(frame: pd.DataFrame) -> str:
    """A table for each task and number of streams, a line for each architecture."""
    found = streams(frame)
    if not len(found):
        return "no stream was measured\n"
    parts = []
    for (task, n_streams), part in found.groupby(["task", "n_streams"], sort=False):
        positions = sorted(part["position"].unique())
        headings = [
            "architecture",
            *(f"at {count(position)}" for position in positions),
            *("p99 at the last", "time", "state bytes at first", "at last", "state"),
            *("drift", "kernel", "hardware", "remark"),
        ]
        lines = [
            _line(of_one, positions)
            for _, of_one in part.groupby([*KEYS, "hardware", "precision"], sort=False)
        ]
        side = "one stream" if n_streams == 1 else f"{n_streams} streams side by side"
        right = range(1, 2 + len(positions))
        title = f"### {escape(str(task))}: microseconds per step, {side}"
        parts.append(f"{title}\n\n{table(headings, lines, right=right)}")
    return "\n".join([*parts, LEGEND])


def _measured(run: pd.Series) -> list[tuple[str, int, int]]:
    """Prefix, number of streams and position of what a run measured, or could not."""
    found = set()
    for name in run.index:
        if (match := STREAMS.fullmatch(str(name))) and _has(run, match):
            found.add((match[1], int(match[2] or 1), int(match[3])))
    return sorted(found, key=lambda one: one[1:])


def _has(run: pd.Series, match: re.Match[str]) -> bool:
    return pd.notna(run[match[0]]) or pd.notna(run.get(f"{match[1]}_at_{match[3]}_missing"))


def _line(of_one: pd.DataFrame, positions: list[int]) -> list[str]:
    by_position = of_one.set_index("position")
    first = of_one.iloc[0]
    measured = of_one[of_one["us_p50"].notna()]
    last = measured.iloc[-1] if len(measured) else first
    mark = " †" if kernel_class(first["kernel"]) == "reference" else ""
    drift = of_one["drift"].dropna()
    times = []
    for position in positions:
        one = by_position.loc[position].to_dict() if position in by_position.index else {}
        ends = (count(one.get("us_p50_low"), 3), count(one.get("us_p50_high"), 3))
        times.append(between(count(one.get("us_p50"), 3), *ends).replace("[", "\\["))
    return [
        f"{escape(first['architecture'])}{mark}",
        *times,
        count(last["us_p99"], 3),
        _text(first["time"]),
        count(first["state_bytes"]),
        count(of_one["state_bytes"].dropna().iloc[-1]) if of_one["state_bytes"].any() else "",
        _text(first["state"]),
        number(drift.iloc[-1], 2) if len(drift) else "",
        _text(first["kernel"]),
        _text(first["hardware"]),
        escape("; ".join(dict.fromkeys(map(str, of_one["missing"].dropna())))),
    ]


def _text(value: object) -> str:
    return escape(value) if isinstance(value, str) else ""
