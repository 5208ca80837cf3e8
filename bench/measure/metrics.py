"""What an instrument returns: keys with their units, as they go into a row."""

from __future__ import annotations

from typing import TypeAlias

Metrics: TypeAlias = dict[str, float | int | str | None]
