"""The command line that describes a run: `study.one_run` reads what this writes."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping
from typing import Any

from bench.spec import Run


def command(run: Run) -> str:
    """`bench run ...`, quoted for a shell; the run that it describes has the same id."""
    return shlex.join(["bench", "run", *words(run)])


def words(run: Run) -> list[str]:
    """The arguments of `bench run`."""
    given = run.model_dump(mode="json", exclude_defaults=True)
    architecture, task = given.pop("architecture"), given.pop("task")
    for key in ("length", "seed"):
        given.pop(key, None)
    found = ["-a", run.architecture.name, "-t", run.task.name, "-l", str(run.length)]
    found += ["--seed", str(run.seed)]
    settings = [*_choice("architecture", architecture), *_choice("task", task), *_flat(given)]
    return found + [word for setting in settings for word in ("--set", setting)]


def _choice(key: str, given: Mapping[str, Any]) -> Iterator[str]:
    options = given.get("options", {})
    if not all(name.isidentifier() for name in options):  # what a dotted key cannot say
        yield f"{key}={_yaml(given)}"
        return
    if "label" in given:
        yield f"{key}.label={_yaml(given['label'])}"
    for name, value in options.items():
        yield f"{key}.{name}={_yaml(value)}"


def _flat(given: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    for key, value in given.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}={_yaml(value)}"


def _yaml(value: object) -> str:
    """JSON that YAML reads as the same: with no sign that YAML does not take as it is."""
    text = json.dumps(value, ensure_ascii=False)
    return "".join(sign if sign.isprintable() else f"\\U{ord(sign):08x}" for sign in text)
