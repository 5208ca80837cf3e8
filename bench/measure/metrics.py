"""What an instrument hands back."""

from __future__ import annotations

from typing import TypeAlias

Metrics: TypeAlias = dict[str, float | int | str | None]
"""Values by name; units live in the names, and `NAME_missing` says in a line why NAME is absent."""
