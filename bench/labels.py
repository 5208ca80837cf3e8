"""What tables call architectures and tasks: one label for each, and no two under one.

A label is a line in every table: two things under one label would be averaged.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from bench.errors import UserError
from bench.spec import Choice, Run


def check_labels(runs: Sequence[Run]) -> tuple[list[str], list[str]]:
    """The labels of the architecture and of the task of every run.

    Raises:
        UserError: one label names two things, or one thing has two labels.
    """
    architectures, tasks = Labels("architecture"), Labels("task")
    return (
        [architectures.of(run.architecture) for run in runs],
        [tasks.of(run.task) for run in runs],
    )


class Labels:
    """Labels made once for each distinct choice, of which a large study has few."""

    def __init__(self, kind: str) -> None:
        self._kind = kind
        self._objects: dict[int, tuple[Choice, str]] = {}  # held, so that no id is used again
        self._known: dict[tuple[str, str | None, str], str] = {}
        self._choice_of: dict[str, str] = {}
        self._label_of: dict[str, str] = {}

    def of(self, choice: Choice) -> str:
        """The label of a choice, which no other may have."""
        held = self._objects.get(id(choice))
        if held is None:
            held = self._objects[id(choice)] = (choice, self._label(choice))
        return held[1]

    def _label(self, choice: Choice) -> str:
        given = (choice.name, choice.label, repr(choice.options))
        if given not in self._known:
            label, thing = str(choice), json.dumps([choice.name, choice.options], sort_keys=True)
            if self._choice_of.setdefault(label, thing) != thing:
                raise UserError(
                    f"the label {label!r} names two different {self._kind}s of the study; "
                    "give each its own `label`"
                )
            if self._label_of.setdefault(thing, label) != label:
                raise UserError(
                    f"one {self._kind} has two labels, {self._label_of[thing]!r} and {label!r}"
                )
            self._known[given] = label
        return self._known[given]
