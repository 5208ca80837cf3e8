"""The runs behind the scores of a summary, one by one."""

from __future__ import annotations

import pandas as pd

from bench.records.summary import CELL

Frame = pd.DataFrame


def scored_runs(frame: Frame, cells: Frame) -> Frame:
    """The runs whose test scores a summary has averaged: CELL, seed, id and test_score.

    They trained to the end, at the setting that val chose; one for each seed of a cell, in the
    order of the summary's cells, seeds ascending.
    """
    runs = frame[
        (frame["purpose"] == "train") & (frame["status"] == "ok") & frame["test_score"].notna()
    ]
    order = cells[[*CELL, "setting"]].assign(cell=range(len(cells)))
    picked = runs[[*CELL, "setting", "seed", "id", "test_score"]].merge(
        order, on=[*CELL, "setting"]
    )
    picked = picked.sort_values(["cell", "seed", "id"], kind="stable")
    return picked.drop_duplicates(["cell", "seed"]).drop(columns="setting")
