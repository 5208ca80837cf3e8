"""What an instrument found: metrics of a row, by names that carry their units."""

from __future__ import annotations

from typing import TypeAlias

Metrics: TypeAlias = dict[str, float | int | str | None]
