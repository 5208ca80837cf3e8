"""Any causal architecture read in both directions: Schuster and Paliwal 1997,
https://doi.org/10.1109/78.650093.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from difflib import get_close_matches
from typing import Any

from architectures.body import Body
from architectures.layers.bidirectional import BidirectionalPair


class Bidirectional(BidirectionalPair):
    """Two copies of any causal architecture, one reading forwards and one backwards.

    `inner` is its name and `options` are its options. State: the pair of final states.
    """

    def __init__(
        self,
        width: int,
        *,
        inner: str = "gru",
        options: dict[str, Any] | None = None,
    ) -> None:
        inner_class = resolve(inner)
        chosen = options or {}
        check_options(inner, inner_class, chosen)
        super().__init__(inner_class(width, **chosen), inner_class(width, **chosen))

    @classmethod
    def width_multiple(cls, **options: Any) -> int:
        """That of the architecture inside."""
        inner_class = resolve(options.get("inner", "gru"))
        return inner_class.width_multiple(**(options.get("options") or {}))


resolver: Callable[[str], type[Body]] | None = None
"""Finds architectures of other packages, too; set by a harness that knows of any."""


def resolve(name: str) -> type[Body]:
    """The registered architecture of that name."""
    if resolver is not None:
        return resolver(name)
    # The registry imports this file, so it is complete only once a body is built.
    from architectures import ARCHITECTURES

    if name not in ARCHITECTURES:
        raise ValueError(f"no architecture {name!r}{did_you_mean(name, list(ARCHITECTURES))}")
    return ARCHITECTURES[name]


def check_options(name: str, architecture: type[Body], options: dict[str, Any]) -> None:
    """Raise ValueError if the architecture has no option of a given name."""
    choices = list(inspect.signature(architecture).parameters)[1:]
    for option in options:
        if option not in choices:
            raise ValueError(f"{name} has no option {option!r}{did_you_mean(option, choices)}")


def did_you_mean(name: str, choices: list[str]) -> str:
    """The end of an error message: the nearest choice and all of them."""
    near = get_close_matches(name, choices, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ";"
    return f"{hint} choices: {', '.join(choices)}"
