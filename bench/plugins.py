"""Architectures and tasks of other packages, by the entry points that these declare.

https://packaging.python.org/en/latest/specifications/entry-points/

    [project.entry-points."seqbench.architectures"]
    leaky = "my_package.leaky:Leaky"

Names are read from the metadata of what is installed. A package is imported when one of its names
is used, never before, and a package that is broken costs nothing but its own names.
"""

from __future__ import annotations

import dataclasses
import inspect
import re
from collections.abc import Container, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Literal, TypeAlias, TypeVar, get_type_hints

from bench.errors import UserError, unknown
from bench.spec import Choice

Catalogue: TypeAlias = Literal["architectures", "tasks"]
Class = TypeVar("Class")

NAME = re.compile(r"[a-z0-9_]+")  # it stands in tables, in file names and in YAML


@dataclasses.dataclass(frozen=True)
class Outside:
    """A name that other packages register: one of them, unless `problem` says otherwise."""

    catalogue: Catalogue
    name: str
    points: tuple[EntryPoint, ...]

    def __str__(self) -> str:
        """`architecture 'leaky' of my-package 1.0`."""
        return f"{self.kind} {self.name!r} of {self.source}"

    @property
    def kind(self) -> str:
        """`architecture` or `task`."""
        return self.catalogue.removesuffix("s")

    @property
    def versions(self) -> dict[str, str]:
        """The version of every package that registers the name."""
        return {point.dist.name: point.dist.version for point in self.points if point.dist}

    @property
    def source(self) -> str:
        """The packages with their versions."""
        return " and ".join(f"{package} {version}" for package, version in self.versions.items())

    def problem(self, built_in: Container[str]) -> str | None:
        """What keeps the name from being used, as far as metadata can tell."""
        if not NAME.fullmatch(self.name):
            return f"{self}: a name has only a to z, 0 to 9 and _"
        if self.name in built_in:
            return f"{self}: seqbench has this name itself; rename that one, or uninstall it"
        if len(self.points) > 1:
            return f"{self}: registered {len(self.points)} times; rename or uninstall all but one"
        return None


@cache
def outside(catalogue: Catalogue) -> dict[str, Outside]:
    """What other packages register, by name, in alphabetical order."""
    found: dict[str, list[EntryPoint]] = {}
    for point in entry_points(group=f"seqbench.{catalogue}"):
        found.setdefault(point.name, []).append(point)
    return {name: Outside(catalogue, name, tuple(found[name])) for name in sorted(found)}


def find(
    catalogue: Catalogue, name: str, built_in: Mapping[str, type[Class]], base: type[Class]
) -> type[Class]:
    """The class of that name: a built-in one, or one of another package.

    Raises:
        UserError: no such name, one that stands for two things, or a class that is no `base` or
            cannot be built from options by name.
    """
    others = outside(catalogue)
    if name in others:
        if problem := others[name].problem(built_in):
            raise UserError(problem)
        return _load(others[name], base)
    if name not in built_in:
        usable = filter(NAME.fullmatch, others)
        raise unknown(catalogue.removesuffix("s"), name, {*built_in, *usable})
    return built_in[name]


def named(catalogue: Catalogue, choice: Choice) -> list[Outside]:
    """What other packages register of all that a choice names.

    A body inside of another one counts: its name stands somewhere in the options.
    """
    words, left = {choice.name}, [*choice.options.values()]
    while left:
        match left.pop():
            case str(text):
                words.add(text)
            case list(values):
                left += values
            case dict(values):
                left += values.values()
    return [entry for name, entry in outside(catalogue).items() if name in words]


@contextmanager
def answered_for(catalogue: Catalogue, choice: Choice, *passing: type[Exception]) -> Iterator[None]:
    """Say whose fault it is if what other packages' code raises was not written for the user.

    Errors pass that are of the types `passing`, of a lack of memory, or raised where the choice
    names nothing of another package.

    Raises:
        UserError: the error with its type, and the packages.
    """
    try:
        yield
    except (Exception, SystemExit) as error:  # another package's code may raise anything
        others = named(catalogue, choice)
        if not others or isinstance(error, (ValueError, ImportError, MemoryError, *passing)):
            raise
        kind, theirs = others[0].kind, " or ".join(map(str, others))
        raise UserError(f"{kind} {choice}: {one_line(error)}; raised by {theirs}") from None


def _load(found: Outside, base: type[Class]) -> type[Class]:
    point = found.points[0]
    try:
        loaded = point.load()
    except (Exception, SystemExit) as error:  # another package's code may raise anything
        raise UserError(f"{found}: {point.value} cannot be imported: {one_line(error)}") from None
    if not (isinstance(loaded, type) and issubclass(loaded, base)):
        wanted = f"{base.__module__}.{base.__name__}"
        raise UserError(f"{found}: {point.value} is no subclass of {wanted}")
    fault = _fault_of_body(loaded) if found.catalogue == "architectures" else _fault_of_task(loaded)
    if fault is not None:
        raise UserError(f"{found}: {point.value}: {fault}")
    return loaded


def _fault_of_body(cls: Any) -> str | None:
    """What keeps a body from being built at a width with options by name."""
    parameters = list(inspect.signature(cls.__init__).parameters.values())
    if [p.name for p in parameters[1:2] if p.kind is p.POSITIONAL_OR_KEYWORD] != ["width"]:
        return "the first argument of __init__ has to be width"
    options = parameters[2:]
    for option in options:
        if option.kind is not inspect.Parameter.KEYWORD_ONLY:
            return f"option {option.name!r} has to be keyword-only: put * before it"
        if option.default is inspect.Parameter.empty:
            return f"option {option.name!r} has to have a default"
    if fault := _fault_of_types(cls.__init__, [option.name for option in options]):
        return fault
    try:
        multiple = cls.width_multiple(**{option.name: option.default for option in options})
    except Exception as error:  # another package's code may raise anything
        return f"width_multiple with the default options raised {one_line(error)}"
    if not isinstance(multiple, int) or multiple < 1:
        return f"width_multiple has to be an integer of at least 1, not {multiple!r}"
    return None


def _fault_of_task(cls: Any) -> str | None:
    """What keeps a task from being built from its fields; a subclass inherits its base's marks."""
    if "__dataclass_params__" not in vars(cls):
        return "it has to be a frozen dataclass: @dataclass(frozen=True, kw_only=True)"
    return _fault_of_types(cls, [field.name for field in dataclasses.fields(cls)])


def _fault_of_types(owner: object, options: Iterable[str]) -> str | None:
    """The first option without a type that values of a study can be checked against."""
    from pydantic import TypeAdapter

    try:
        hints = get_type_hints(owner)
    except Exception as error:  # annotations are code, too
        return f"the types of its options cannot be read: {one_line(error)}"
    for option in options:
        if option not in hints:
            return f"option {option!r} has to have a type"
        try:
            TypeAdapter(hints[option])
        except Exception:  # pydantic's, or those of the type's own hooks
            return f"option {option!r} has a type that no study can give: {hints[option]}"
    return None


def one_line(error: BaseException) -> str:
    """An exception in one line, with its type unless it was written for the user."""
    kind = "" if isinstance(error, UserError) else f"{type(error).__name__}: "
    return " ".join(f"{kind}{error}".split())
