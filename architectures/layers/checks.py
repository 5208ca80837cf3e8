"""Checks of option values, with errors that say how to mend them."""

from __future__ import annotations

from collections.abc import Collection


def check_at_least(name: str, value: float, minimum: float) -> None:
    """Raise ValueError unless value >= minimum."""
    if not value >= minimum:
        raise ValueError(f"{name} must be at least {minimum}, not {value}")


def check_choice(name: str, value: str, choices: Collection[str]) -> None:
    """Raise ValueError unless value is one of the choices."""
    if value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(choices)}, not {value!r}")


def check_dropout(dropout: float) -> None:
    """Raise ValueError unless 0 <= dropout < 1."""
    if not 0 <= dropout < 1:
        raise ValueError(f"dropout must be at least 0 and less than 1, not {dropout}")


def check_divides(name: str, divisor: int, width: int) -> None:
    """Raise ValueError unless the divisor divides the width, naming the nearest widths that do."""
    if width % divisor:
        below = width // divisor * divisor
        near = f"{below} or {below + divisor}" if below else f"{divisor}"
        raise ValueError(f"{name} {divisor} must divide width {width}; nearest widths: {near}")
