"""Fairness by parameter budget: the width at which an architecture has as many parameters as asked.

Equal width would favour the architectures that put more parameters into a unit of width.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from bench.catalogue import body_class, body_options, make_body
from bench.errors import UserError
from bench.spec import Run
from bench.training.model import count_parameters, make_model
from tasks.task import Task

DEFAULT_WIDTH = 64
TOLERANCE = 0.25
"""The largest miss of a budget, as a fraction, that is run; the row says what the miss is."""


def width_of(run: Run, task: Task) -> int:
    """The width D of a run: as given, or solved for its parameter budget.

    Raises:
        UserError: no width comes within a quarter of the budget.
    """
    if run.width is not None:
        return run.width
    multiple = body_class(run.architecture.name).width_multiple(**body_options(run.architecture))
    if run.params is None:
        return -(-DEFAULT_WIDTH // multiple) * multiple

    def count(width: int) -> int:
        with torch.device("meta"):
            body = make_body(run.architecture, width)
            counted = body if run.params_of == "body" else make_model(body, task)
        return count_parameters(counted)

    width = solve(count, run.params, multiple)
    found = count(width)
    if abs(found - run.params) > TOLERANCE * run.params:
        raise UserError(
            f"{run.architecture} on {run.task} has no width with about {run.params:,} parameters: "
            f"{width} gives {found:,}; raise params, or count the body alone (params_of: body)"
        )
    return width


def solve(count: Callable[[int], int], target: int, multiple: int) -> int:
    """The multiple of `multiple` whose count, growing with the width, is nearest to `target`."""
    high = 1
    while count(high * multiple) < target:
        high *= 2
    low = high // 2  # count(low) < target <= count(high), where low 0 stands for no parameters
    while high - low > 1:
        middle = (low + high) // 2
        if count(middle * multiple) < target:
            low = middle
        else:
            high = middle
    candidates = [width * multiple for width in (low, high) if width > 0]
    return min(candidates, key=lambda width: abs(count(width) - target))
