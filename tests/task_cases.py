"""The cases of all groups of tasks together, for the laws that are tried on every task.

A module of cases may have, by the names of its tasks: EXAMPLES, LENGTHS, SOLVERS, FIRST_EXAMPLES,
REQUIRED (fields without a default); the sets OTHER_CHANCE (answers of other examples are no blind
guess), UNTRAINED_AT_CHANCE, WINDOWED (training windows start anywhere in one text) and REPEATING; and
`write(root)` with `use(root, monkeypatch)`, which make small data sets of the true formats and have
them read.
"""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests import cases_labelling, cases_language, cases_memory

GROUPS: tuple[ModuleType, ...] = (cases_labelling, cases_language, cases_memory)


def by_name(attribute: str) -> dict[str, Any]:
    """A dict of every group as one."""
    found: dict[str, Any] = {}
    for group in GROUPS:
        found |= getattr(group, attribute, {})
    return found


def names(attribute: str) -> list[str]:
    """The names in a set or list of every group, in order."""
    return sorted({name for group in GROUPS for name in getattr(group, attribute, ())})


def write(root: Path) -> None:
    """Write the small data sets of every group below a folder."""
    for group in GROUPS:
        if hasattr(group, "write"):
            group.write(root)


def use(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have them read in the place of those that are on this machine."""
    for group in GROUPS:
        if hasattr(group, "use"):
            group.use(root, monkeypatch)
