"""Errors that a user can mend: one line with the value, the nearest valid one and the choices."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pydantic import ValidationError


class UserError(ValueError):
    """Something in what the user gave is wrong. The command line prints it and exits with 2."""


def unknown(what: str, value: object, choices: Iterable[str]) -> UserError:
    """Say that there is no `what` named `value`, what was probably meant, and what there is."""
    names = sorted(choices)
    near = difflib.get_close_matches(str(value), names, n=1, cutoff=0.5)
    hint = f"; did you mean {near[0]!r}?" if near else ";"
    return UserError(f"no {what} {value!r}{hint} choices: {', '.join(names) or 'none'}")


def from_validation(
    error: ValidationError, where: str, choices: Mapping[str, Iterable[str]]
) -> UserError:
    """The first problem of a pydantic error as one line.

    `choices` has the valid keys of every section, by dotted path ("" is the top).
    """
    first = error.errors(include_url=False)[0]
    path = [str(part) for part in first["loc"]]
    section, key = ".".join(path[:-1]), path[-1] if path else ""
    if first["type"] == "extra_forbidden":
        place = f"{where}: {section}" if section else where
        return UserError(f"{place}: {unknown('key', key, choices.get(section, ()))}")
    if first["type"] == "missing":
        return UserError(f"{where}: {'.'.join(path)} is missing")
    value = f", not {first['input']!r}" if not isinstance(first["input"], dict) else ""
    message = first["msg"].removeprefix("Value error, ")
    if first["type"] == "literal_error":
        expected = (
            str(first.get("ctx", {}).get("expected", "")).replace("'", "").replace(" or ", ", ")
        )
        return UserError(
            f"{where}: {unknown('.'.join(path), first['input'], expected.split(', '))}"
        )
    detail = message[0].lower() + message[1:]
    return UserError(
        f"{where}: {'.'.join(path)}: {detail}{value}" if path else f"{where}: {detail}"
    )
