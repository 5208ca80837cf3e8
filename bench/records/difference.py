"""Which rows' speeds may stand side by side."""

from __future__ import annotations

import pandas as pd

from bench.errors import UserError

UNLIKE = {"hardware": "machines", "precision": "precisions", "world_size": "world sizes"}
"""Columns of a summary whose values must not be mixed without `--across`."""


def not_alike(cells: pd.DataFrame) -> str:
    """What of the measured cells of a summary is mixed: `machines: A, B`; nothing if all alike."""
    parts = []
    for column, name in UNLIKE.items():
        found = sorted(map(str, cells[column].dropna().unique()))
        if len(found) > 1:
            parts.append(f"{name}: {'; '.join(found)}")
    return ", ".join(parts)


def check_alike(cells: pd.DataFrame, across: bool) -> None:
    """Refuse a comparison of cells that were not measured alike, unless it is asked for.

    Raises:
        UserError: they are of different machines, precisions or world sizes.
    """
    if not across and (mixed := not_alike(cells)):
        raise UserError(
            f"speeds and memory of different {mixed} are not compared; --across does it anyway"
        )
