"""Rows of earlier versions, lifted to today's as they are read. Their files stay as they are.

Whoever changes the fields of a row raises SCHEMA_VERSION and adds a line to LIFTS, which says how a
row of the version before becomes one of the new version; rows written years apart then stand in one
table. Version 1 is the first.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, TypeAlias

from bench.records.row import SCHEMA_VERSION

Lift: TypeAlias = Callable[[dict[str, Any]], dict[str, Any]]

LIFTS: dict[int, Lift] = {}
"""By the version that is lifted; the outcome is of the next one."""


def lifted(text: str) -> dict[str, Any] | None:
    """An earlier version's row as today's data; None if it is none, or no way leads here."""
    try:
        data = json.loads(text)
    except (ValueError, RecursionError):
        return None
    version = data.get("schema_version") if isinstance(data, dict) else None
    if type(version) is not int or version >= SCHEMA_VERSION:
        return None
    while version < SCHEMA_VERSION:
        if version not in LIFTS:
            return None
        try:
            data = LIFTS[version](data)
        except (KeyError, TypeError, ValueError):  # a damaged row
            return None
        version += 1
    return {**data, "schema_version": version}
