"""Where rows come from: hardware, software and commit, each with the number of its rows."""

from __future__ import annotations

import pandas as pd

from bench.records.expected import MISSING

LABELS = {"hardware": "hardware", "versions": "versions", "git_commit": "commit"}


def origin(frame: pd.DataFrame) -> list[str]:
    """`hardware: EPYC 7B13, 2 cores` and the like; with counts where rows differ."""
    rows = frame[frame["status"] != MISSING]
    if rows.empty:
        return ["no rows yet"]
    lines = []
    for column, label in LABELS.items():
        counts = rows[column].fillna("unknown").value_counts()
        found = sorted(counts.items(), key=lambda item: (-item[1], str(item[0])))
        if len(found) == 1:
            lines.append(f"{label}: {found[0][0]} (all {len(rows)} rows)")
        else:
            lines += [f"{label}: {value} ({n} of {len(rows)} rows)" for value, n in found]
    return lines
