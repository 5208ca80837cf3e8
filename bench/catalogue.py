"""What can be named in a run: the registered architectures and tasks, their options and defaults.

The functions import torch when they are called.
"""

from __future__ import annotations

import dataclasses
import inspect
import json
import shlex
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast, get_type_hints

from pydantic import BaseModel, ConfigDict, ValidationError, create_model

from bench.errors import UserError, from_validation, unknown
from bench.spec import Choice, Run

if TYPE_CHECKING:
    from architectures.body import Body
    from tasks.task import Task


def task_class(name: str) -> type[Task]:
    """The class of a registered task."""
    from tasks import TASKS

    if name not in TASKS:
        raise unknown("task", name, TASKS)
    return TASKS[name]


def body_class(name: str) -> type[Body]:
    """The class of a registered architecture."""
    from architectures import ARCHITECTURES

    if name not in ARCHITECTURES:
        raise unknown("architecture", name, ARCHITECTURES)
    return ARCHITECTURES[name]


def body_options(choice: Choice) -> dict[str, Any]:
    """Every option of an architecture, the defaults filled in."""
    return _filled(_body_model(choice.name), choice, "architecture")


def make_body(choice: Choice, width: int) -> Body:
    """Build an architecture at a width.

    Raises:
        UserError: an unknown name or option, or a value that the architecture refuses.
    """
    options = body_options(choice)
    # Every registered class takes the width and its options by keyword; Body itself has none.
    build = cast("Callable[..., Body]", body_class(choice.name))
    try:
        return build(width, **options)
    except (ValueError, ImportError) as error:
        raise UserError(f"architecture {choice}: {error}") from None


def make_task(choice: Choice, length: int) -> Task:
    """Build a task at a length.

    Raises:
        UserError: an unknown name or option, or a value that the task refuses.
    """
    cls = task_class(choice.name)
    options = _filled(_task_model(choice.name), choice, "task")
    try:
        return cls(length=length, **options)
    except (ValueError, ImportError) as error:
        raise UserError(f"task {choice} at length {length}: {error}") from None


def data_sets(runs: Iterable[Run]) -> tuple[str, ...]:
    """The names of the data sets that runs read, in alphabetical order.

    Raises:
        UserError: an unknown task or option.
    """
    asked = dict.fromkeys((_Frozen(run.task), run.length) for run in runs)
    made = (make_task(task.choice, length) for task, length in asked)
    return tuple(sorted({name for task in made for name in task.data_sets}))


def check(runs: list[Run], study: Path | None = None) -> None:
    """Refuse what could not be built, before anything runs.

    Args:
        runs: all that will run.
        study: where they are described; named in the command that brings missing data.

    Raises:
        UserError: naming the first architecture, task, option or length that does not exist, or
            all data sets that are not on this machine.
    """
    import torch

    from tasks.task import GeneratedTask

    _check_data(data_sets(runs), study)
    asked = ((_Frozen(run.task), (run.length, *run.test_lengths)) for run in runs)
    for task, (length, *others) in dict.fromkeys(asked):
        for other in others:
            make_task(task.choice, other)
        made = make_task(task.choice, length)
        if isinstance(made, GeneratedTask):
            continue
        try:
            made.examples("test", 0, torch.tensor([0]))  # reads its data, if it is there
        except (ValueError, ImportError) as error:
            message = str(error)
            where = "" if task.choice.name in message else f"task {task.choice}: "
            raise UserError(f"{where}{message}") from None
    with torch.device("meta"):
        for choice, width in dict.fromkeys((_Frozen(r.architecture), r.width) for r in runs):
            probe = width or _probe_width(choice.choice)
            try:
                make_body(choice.choice, probe)
            except (RuntimeError, OverflowError) as error:  # sizes that no tensor can have
                first = str(error).partition("\n")[0]
                raise UserError(f"architecture {choice.choice} at width {probe}: {first}") from None


def _check_data(names: tuple[str, ...], study: Path | None) -> None:
    """Refuse if data that has to be downloaded is missing; readers tell of missing packages."""
    from tasks.data.cache import find, missing, size_text, status

    absent = [name for name in names if find(name).files and status(name) == "no"]
    if not absent:
        return
    if study is None or not all(find(name).can_be_downloaded for name in absent):
        raise UserError("; ".join(str(missing(name)) for name in absent))
    sizes = ", ".join(f"{name} ({size_text(find(name).bytes)})" for name in absent)
    raise UserError(
        f"not on this machine: {sizes}; run `bench data fetch --study {shlex.quote(str(study))}`"
    )


def _probe_width(choice: Choice) -> int:
    return body_class(choice.name).width_multiple(**body_options(choice)) * 8


@dataclasses.dataclass(frozen=True)
class _Frozen:
    """A hashable choice: equal if its canonical JSON is."""

    key: str

    def __init__(self, choice: Choice) -> None:
        object.__setattr__(self, "key", json.dumps(choice.model_dump(mode="json"), sort_keys=True))

    @property
    def choice(self) -> Choice:
        return Choice.model_validate_json(self.key)


def _filled(model: type[BaseModel], choice: Choice, kind: str) -> dict[str, Any]:
    where = f"{kind} {choice.name}"
    try:
        parsed = model.model_validate_json(json.dumps(choice.options), strict=True)
    except ValidationError as error:
        raise from_validation(error, where, {"": model.model_fields}) from None
    return {name: getattr(parsed, name) for name in model.model_fields}


@cache
def _body_model(name: str) -> type[BaseModel]:
    cls = body_class(name)
    signature = inspect.signature(cls.__init__)
    hints = get_type_hints(cls.__init__)
    return _model(
        cls.__name__,
        {
            option: (hints[option], parameter.default)
            for option, parameter in signature.parameters.items()
            if parameter.kind is inspect.Parameter.KEYWORD_ONLY
        },
    )


@cache
def _task_model(name: str) -> type[BaseModel]:
    cls = task_class(name)
    hints = get_type_hints(cls)
    return _model(
        cls.__name__,
        {
            field.name: (
                hints[field.name],
                ... if field.default is dataclasses.MISSING else field.default,
            )
            for field in dataclasses.fields(cls)
            if field.name != "length"
        },
    )


def _model(name: str, fields: Mapping[str, tuple[Any, Any]]) -> type[BaseModel]:
    config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())
    required = {
        key: (hint, ... if default is inspect.Parameter.empty else default)
        for key, (hint, default) in fields.items()
    }
    made: type[BaseModel] = create_model(
        name, __config__=config, **cast("dict[str, Any]", required)
    )
    return made
