"""When two speeds differ, and which rows' speeds may stand side by side.

A ratio of two speeds is a difference if it is at least LEAST_RATIO, and its excess over 1 at least
GAPS times that of the noise floor: the ratio of one cell to itself, timed as if it were two. All
below prints as no difference.
"""

from __future__ import annotations

from collections.abc import Iterable

import pandas as pd

from bench.errors import UserError
from bench.records.markdown import finite

LEAST_RATIO = 1.1
"""No smaller ratio is a difference, however quiet the machine was while it was measured."""
GAPS = 3.0
"""How many times the gap between a cell and itself a gap between cells has to be."""
UNLIKE = {"hardware": "machines", "precision": "precisions", "world_size": "world sizes"}
"""Columns of a summary whose values must not be mixed without `--across`."""


def least_ratio(noise_floors: Iterable[object]) -> float:
    """The smallest ratio that is a difference, by the worst of the noise floors; unknown is 1."""
    worst = max((floor for one in noise_floors if (floor := finite(one)) is not None), default=1.0)
    return max(LEAST_RATIO, 1.0 + GAPS * (worst - 1.0))


def differ(first: float, second: float, noise_floors: Iterable[object]) -> bool:
    """Whether two speeds, or two times, are different."""
    return max(first, second) / min(first, second) >= least_ratio(noise_floors)


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
