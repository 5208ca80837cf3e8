"""What can be named in a run: the registered architectures and tasks, their options and defaults.

The functions import torch when they are called.
"""

from __future__ import annotations

import dataclasses
import inspect
import json
import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast, get_type_hints

from pydantic import BaseModel, ConfigDict, ValidationError, create_model

from bench import plugins
from bench.errors import UserError, from_validation
from bench.spec import Choice, Run

if TYPE_CHECKING:
    from architectures.body import Body
    from tasks.task import Task

OUT_OF_SIZE = (RuntimeError, OverflowError)
"""What a tensor raises that cannot be as large, or finds no memory."""
MAX_TENSORS = 10_000
"""Parameter tensors that an architecture may have: a thousand layers, built in seconds."""


def task_class(name: str) -> type[Task]:
    """The class of a registered task, of this package or another."""
    from tasks import TASKS
    from tasks.task import Task

    return plugins.find("tasks", name, TASKS, Task)


def body_class(name: str) -> type[Body]:
    """The class of a registered architecture, of this package or another."""
    from architectures import ARCHITECTURES, bidirectional
    from architectures.body import Body

    bidirectional.resolver = body_class  # for the names inside a body, which may be others', too
    return plugins.find("architectures", name, ARCHITECTURES, Body)


def body_options(choice: Choice) -> dict[str, Any]:
    """Every option of an architecture, the defaults filled in."""
    return _filled(_body_model(choice.name), choice, "architecture")


def make_body(choice: Choice, width: int) -> Body:
    """Build an architecture at a width.

    Raises:
        UnsupportedError: what the architecture cannot do, whatever the values of its options.
        UserError: an unknown name or option, a value that the architecture refuses, or whatever
            that of another package raises other than OUT_OF_SIZE.
    """
    from architectures.body import UnsupportedError

    options = body_options(choice)
    # Every registered class takes the width and its options by keyword; Body itself has none.
    build = cast("Callable[..., Body]", body_class(choice.name))
    with plugins.answered_for("architectures", choice, *OUT_OF_SIZE):
        try:
            return build(width, **options)
        except UnsupportedError as error:
            raise UnsupportedError(f"architecture {choice}: {error}") from None
        except (ValueError, ImportError) as error:
            raise UserError(f"architecture {choice}: {error}") from None


def make_task(choice: Choice, length: int) -> Task:
    """Build a task at a length.

    Raises:
        UserError: an unknown name or option, a value that the task refuses, or whatever that of
            another package raises.
    """
    cls = task_class(choice.name)
    options = _filled(_task_model(choice.name), choice, "task")
    with plugins.answered_for("tasks", choice):
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

    What an architecture does not support passes: its row will give the reason.

    Args:
        runs: all that will run.
        study: where they are described; named in the command that brings missing data.

    Raises:
        UserError: naming the first architecture, task, option or length that does not exist, an
            architecture of more parameter tensors than could be trained, or all data sets that are
            not on this machine.
    """
    import torch

    from architectures.body import UnsupportedError
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
            with plugins.answered_for("tasks", task.choice):
                made.examples("test", 0, torch.tensor([0]))  # reads its data, if it is there
        except (ValueError, ImportError) as error:
            message = str(error)
            where = "" if task.choice.name in message else f"task {task.choice}: "
            raise UserError(f"{where}{message}") from None
    with torch.device("meta"):
        for choice, width in dict.fromkeys((_Frozen(r.architecture), r.width) for r in runs):
            probe = width or _probe_width(choice.choice)
            try:
                with _bounded(choice.choice):
                    make_body(choice.choice, probe)
            except UnsupportedError:
                continue
            except OUT_OF_SIZE as error:
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


class _TooManyTensors(BaseException):
    """Passes what handles the exceptions of an architecture: it is none of its own."""


@contextmanager
def _bounded(choice: Choice) -> Iterator[None]:
    """Refuse an architecture as soon as it has too many tensors, where building all takes minutes.

    Raises:
        UserError: it has more than MAX_TENSORS.
    """
    from torch.nn.modules.module import register_module_parameter_registration_hook

    n_tensors = 0

    def count(module: object, name: str, parameter: object) -> None:
        nonlocal n_tensors
        n_tensors += 1
        if n_tensors > MAX_TENSORS:
            raise _TooManyTensors

    handle = register_module_parameter_registration_hook(count)
    try:
        yield
    except _TooManyTensors:
        raise UserError(
            f"architecture {choice} has more than {MAX_TENSORS:,} parameter tensors: lower the "
            "number of its layers"
        ) from None
    finally:
        handle.remove()


def _probe_width(choice: Choice) -> int:
    with plugins.answered_for("architectures", choice):
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
