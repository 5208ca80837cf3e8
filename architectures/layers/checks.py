"""Checks of option values, with errors that say how to mend them."""

from __future__ import annotations

import math
from collections.abc import Collection


def check_at_least(name: str, value: float, minimum: float) -> None:
    """Raise ValueError unless value >= minimum, and finite."""
    if not value >= minimum:
        raise ValueError(f"{name} must be at least {minimum}, not {value}")
    check_finite(name, value)


def check_finite(name: str, value: float) -> None:
    """Raise ValueError if the value is infinite or not a number."""
    if not math.isfinite(value):
        raise ValueError(f"{name} must be finite, not {value}")


def check_choice(name: str, value: str, choices: Collection[str]) -> None:
    """Raise ValueError unless value is one of the choices."""
    if value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(choices)}, not {value!r}")


def check_dropout(dropout: float, name: str = "dropout") -> None:
    """Raise ValueError unless 0 <= dropout < 1."""
    if not 0 <= dropout < 1:
        raise ValueError(f"{name} must be at least 0 and less than 1, not {dropout}")


def check_divides(name: str, divisor: int, width: int) -> None:
    """Raise ValueError unless the divisor divides the width, naming the nearest widths that do."""
    if width % divisor:
        below = width // divisor * divisor
        near = f"{below} or {below + divisor}" if below else f"{divisor}"
        raise ValueError(f"{name} {divisor} must divide width {width}; nearest widths: {near}")


def check_conjugate_pairs(state: int) -> None:
    """Raise ValueError unless a complex state of this size splits into conjugate pairs."""
    check_at_least("state", state, 2)
    if state % 2:
        raise ValueError(f"state must be even (conjugate pairs), not {state}: {state + 1}?")


def check_time_steps(dt_min: float, dt_max: float) -> None:
    """Raise ValueError unless the range of initial time steps is positive and not empty."""
    if not 0 < dt_min <= dt_max:
        raise ValueError(f"give 0 < dt_min <= dt_max, not {dt_min} and {dt_max}")
    check_finite("dt_max", dt_max)
