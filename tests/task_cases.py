"""The cases of all groups of tasks together, for the laws that are tried on every task.

A module of cases may have these, by the names of its tasks:

- dicts: EXAMPLES, LENGTHS, SOLVERS, FIRST_EXAMPLES, REQUIRED (fields without a default), LARGEST
  (real inputs above 3), PERFECT (right answers, where targets are not these answers themselves);
- sets: UNTRAINED_AT_CHANCE; BALANCED (answers of other examples are a blind guess; of generated
  tasks all but OTHER_CHANCE); WINDOWED (training windows start anywhere in one text); REPEATING;
- `write(root)` and `use(root, monkeypatch)`, which make small data sets of the true formats and
  have them read.
"""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests import cases_labelling, cases_language, cases_lra, cases_memory, cases_signal

GROUPS: tuple[ModuleType, ...] = (
    cases_labelling,
    cases_language,
    cases_lra,
    cases_memory,
    cases_signal,
)


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
