"""What torch.compile leaves to Python.

A loop over tokens is unrolled by the compiler, each token's update in the expression of the next:
minutes for 32 tokens of one scan, and again for every other length.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

import torch

P = ParamSpec("P")
R = TypeVar("R")


def left_to_python(function: Callable[P, R]) -> Callable[P, R]:
    """The function, which runs as it is in what torch.compile makes of its callers.

    Not torch.compiler.disable at once: it imports the compiler, a second or more.
    """

    @wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        if torch.compiler.is_compiling():
            uncompiled: Callable[P, R] = torch.compiler.disable(function)
            return uncompiled(*args, **kwargs)
        return function(*args, **kwargs)

    return call
