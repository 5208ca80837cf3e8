"""Which trackers follow runs that are launched: no part of a run, whose row is the same without."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from bench.errors import UserError, unknown
from bench.records.row import Row
from bench.trackers import tensorboard, weights_and_biases
from bench.trackers.follow import Followers, LiveRun

VARIABLE = "SEQBENCH_TRACKERS"
"""The variable that names those of whom none is named otherwise, separated by commas."""


@dataclass(frozen=True)
class Tracker:
    """A tool that shows runs."""

    package: str
    load: Callable[[], ModuleType]
    begin: Callable[[ModuleType, Path, Row, bool], LiveRun]


TRACKERS = {
    "tensorboard": Tracker("tensorboardX", tensorboard.load, tensorboard.LiveRun),
    "wandb": Tracker("wandb", weights_and_biases.load, weights_and_biases.LiveRun),
}


def chosen(asked: Sequence[str]) -> tuple[str, ...]:
    """The trackers that are asked for, or else those that SEQBENCH_TRACKERS names.

    Raises:
        UserError: there is no tracker of such a name.
    """
    by_variable = [part.strip() for part in os.environ.get(VARIABLE, "").split(",")]
    names = asked or [name for name in by_variable if name]
    for name in names:
        if name not in TRACKERS:
            error = unknown("tracker", name, TRACKERS)
            raise error if asked else UserError(f"{VARIABLE}: {error}")
    return tuple(dict.fromkeys(names))


def check(names: Sequence[str]) -> None:
    """Raise UserError if the package of one of these trackers is not installed here."""
    for name in names:
        TRACKERS[name].load()


def packages(names: Sequence[str]) -> list[str]:
    """What these trackers import."""
    return [TRACKERS[name].package for name in names]


def followers(names: Sequence[str], folder: Path) -> Followers:
    """These trackers for one run, whose row will be in the study's folder."""

    def begin(name: str, row: Row, continued: bool) -> LiveRun:
        tracker = TRACKERS[name]
        return tracker.begin(tracker.load(), folder, row, continued)

    return Followers({name: functools.partial(begin, name) for name in names})
