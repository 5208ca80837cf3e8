"""Learning curves: every seed at the setting that val chose, at each task's longest length.

They are in the rows and not in the tidy table, so only the rows that are drawn are parsed.
"""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from bench.records.store import Store
from bench.report.points import Point


@dataclass(frozen=True)
class Curves:
    """One task's learning curves."""

    name: str  # of the curve in the row: `val_accuracy`
    length: int
    points: list[Point]


def by_task(frame: pd.DataFrame, cells: pd.DataFrame, store: Store) -> dict[str, Curves]:
    """The curves of every task that has some, of two steps or more."""
    scored = cells[cells["score"].notna()]
    longest = scored.groupby("task")["length"].transform("max")
    chosen = scored.loc[scored["length"] == longest, ["task", "length", "architecture", "setting"]]
    ran = frame[(frame["purpose"] == "train") & (frame["status"] == "ok")]
    ran = ran.merge(chosen, on=list(chosen.columns))
    rows = {row.id: row.curves for row in store.rows(ran["id"].tolist())}
    found = {}
    for task, runs in ran.groupby("task", sort=False):
        names = {name for row_id in runs["id"] for name in rows[row_id]}
        name = _preferred(names, runs["metric"].iloc[0])
        points = [
            {"architecture": architecture, "seed": int(seed), "step": step, "value": value}
            for row_id, architecture, seed in zip(
                runs["id"], runs["architecture"], runs["seed"], strict=True
            )
            for step, value in rows[row_id].get(name, [])
            if value is not None
        ]
        if len({point["step"] for point in points}) > 1:  # one step is no curve
            found[str(task)] = Curves(name, int(runs["length"].iloc[0]), points)
    return found


def _preferred(names: set[str], metric: str) -> str:
    """The score on val, or the nearest thing to it that was recorded."""
    wanted = ["val_score", f"val_{metric}", "val_loss", "train_loss", *sorted(names)]
    return next((name for name in wanted if name in names), "")
