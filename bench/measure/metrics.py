"""What an instrument returns."""

from __future__ import annotations

from typing import TypeAlias

Metrics: TypeAlias = dict[str, float | int | str | None]
