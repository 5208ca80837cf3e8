"""Tables of hourly measurements: ETTh1, and the temperatures that vega_datasets carries.

Origins and licences: tasks/data/sets.py (`ett`, `vega_temperatures`).
"""

from __future__ import annotations

import csv
import math
from datetime import datetime, timedelta
from functools import cache
from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor

from tasks.data.errors import DataError
from tasks.data.packages import PackageFile

ETT_COLUMNS = ("date", "HUFL", "HULL", "MUFL", "MULL", "LUFL", "LULL", "OT")
HOUR = timedelta(hours=1)
SEATTLE = PackageFile(
    distribution="vega_datasets",
    package="vega_datasets",
    path="_data/seattle-temps.csv",
    sha256="c220666521ff4bec4ffb6f0d9acfdc5c1056564b1aad6f78d3b06aa0a0c8b085",
)
SAN_FRANCISCO = PackageFile(
    distribution="vega_datasets",
    package="vega_datasets",
    path="_data/sf-temps.csv",
    sha256="3f91699707cfed43ef551394bebef4c2ebe5505157b9be7bff9558eea2fbaaec",
)


@cache
def read_ett(path: Path) -> Tensor:
    """The seven series of ETTh1.csv (17420, 7) float64: six loads, then the oil temperature.

    Raises:
        DataError: naming the line that is not an hour after the one before with seven numbers.
    """
    times, values = _table(str(path), path.read_text(encoding="utf-8"), ETT_COLUMNS, "%H:%M:%S")
    for line, (before, after) in enumerate(pairwise(times), start=3):
        if after - before != HOUR:
            raise DataError(f"{path}, line {line}: {after} is not an hour after {before}")
    return values


@cache
def read_temperatures(task: str) -> Tensor:
    """Degrees Fahrenheit in Seattle and San Francisco (8759, 2) float64, hour by hour in 2010.

    One hour is missing, that at which clocks were put forward.
    """
    seattle, in_seattle = _table(
        SEATTLE.path, SEATTLE.read(task).decode(), ("date", "temp"), "%H:%M"
    )
    sf, in_sf = _table(
        SAN_FRANCISCO.path, SAN_FRANCISCO.read(task).decode(), ("temp", "date"), "%H:%M:%S"
    )
    if seattle != sf:
        raise DataError(f"{SEATTLE.path} and {SAN_FRANCISCO.path} have other hours")
    return torch.cat([in_seattle, in_sf], dim=1)


def _table(
    name: str, content: str, columns: tuple[str, ...], clock: str
) -> tuple[list[datetime], Tensor]:
    """The times, and the numbers (N, columns - 1) of a table with a header."""
    lines = csv.reader(content.splitlines())
    header = tuple(next(lines, ()))
    if header != columns:
        raise DataError(f"{name}, line 1: columns must be {','.join(columns)}, not {header}")
    place = columns.index("date")
    times, rows = [], []
    for number, cells in enumerate(lines, start=2):
        try:
            # Dates have slashes in one file and hyphens in another.
            time = datetime.strptime(cells[place].replace("/", "-"), f"%Y-%m-%d {clock}")
            row = [float(cell) for column, cell in enumerate(cells) if column != place]
        except (ValueError, IndexError) as error:
            raise DataError(f"{name}, line {number}: {error}") from None
        if len(cells) != len(columns) or not all(map(math.isfinite, row)):
            raise DataError(f"{name}, line {number}: not {len(columns) - 1} finite numbers: {row}")
        times.append(time)
        rows.append(row)
    return times, torch.tensor(rows, dtype=torch.float64)
