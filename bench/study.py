"""A Study: a folder with a `study.yaml` that expands to runs. Nothing here imports torch.

Example::

    title: Which architecture for short byte sequences?
    base:                       # a Run, without what the grid varies
      params: 50_000
      training: {steps: 300, tokens_per_batch: 4096}
    grid:                       # every combination; dotted keys reach inside; a list of grids too
      architecture: [lstm, {name: s4d, state: 16}]
      task: [python_bytes]
      length: [128, 512]
      training.learning_rate: [0.001, 0.003]
      seed: [0, 1, 2]
    exclude:                    # combinations to leave out: every key has to match
      - {architecture: lstm, length: 512}
    include:                    # further runs, each over the base
      - {architecture: bilstm_stack, task: digits, length: 64}
    measure:                    # speed and memory: one run per architecture, task and length
      instruments: [throughput, memory]
      task: [python_bytes]      # these keys replace the grid's
      length: [128, 512, 2048]
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import Field, JsonValue, ValidationError, field_validator

from bench.errors import UserError, from_validation, unknown
from bench.spec import RUN_KEYS, Choice, Run, Spec, keys_of, parse_run

STUDY_FILE = "study.yaml"


class StudyFile(Spec):
    """What `study.yaml` may hold."""

    title: str
    question: str = ""
    base: dict[str, JsonValue] = Field(default_factory=dict)
    grid: list[dict[str, list[JsonValue]]] = Field(default_factory=list)  # or one alone
    include: list[dict[str, JsonValue]] = Field(default_factory=list)
    exclude: list[dict[str, JsonValue]] = Field(default_factory=list)
    measure: dict[str, JsonValue] | None = None

    @field_validator("grid", mode="before")
    @classmethod
    def _several(cls, given: object) -> object:
        return [given] if isinstance(given, Mapping) else given


@dataclass(frozen=True)
class Study:
    """A study and the runs it asks for, each once, in the order of the file."""

    name: str
    folder: Path
    title: str
    question: str
    runs: tuple[Run, ...]


class _Loader(yaml.SafeLoader):
    """Safe YAML in which 1e-3 is a number and a key given twice is an error."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if key.value in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"key {key.value!r} stands twice", key.start_mark
                )
            seen.add(key.value)
        return dict(super().construct_mapping(node, deep=deep))


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?\d[\d_]*(\.\d*)?[eE][-+]?\d+$"),
    list("-+0123456789"),
)


def load(path: Path) -> Study:
    """Read a study from its folder or its file.

    Raises:
        UserError: the file is missing, is no YAML, or says what no run can be.
    """
    file = path / STUDY_FILE if path.is_dir() else path
    try:
        text = file.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UserError(f"no study at {path}: there is no {file.name} in it{_near(path)}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read {file}: {error}") from None
    try:
        given = yaml.load(text, Loader=_Loader)
    except yaml.YAMLError as error:
        raise UserError(f"{file} is not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(given, Mapping):
        raise UserError(
            f"{file} has to be a mapping with the keys {', '.join(StudyFile.model_fields)}"
        )
    try:
        parsed = StudyFile.model_validate(given)
    except ValidationError as error:
        raise from_validation(error, str(file), keys_of(StudyFile)) from None
    runs = tuple(_expand(parsed, str(file)))
    return Study(
        name=file.resolve().parent.name,
        folder=file.parent,
        title=parsed.title,
        question=parsed.question,
        runs=runs,
    )


def one_run(architecture: str, task: str, length: int, seed: int, settings: Sequence[str]) -> Run:
    """The run that a command line describes; `settings` are `dotted.key=value`, values in YAML.

    Raises:
        UserError: a setting without `=`, an unknown key, or a value that no run can have.
    """
    base = {"architecture": {"name": architecture}, "task": {"name": task}}
    changes: dict[str, Any] = {"length": length, "seed": seed}
    for setting in settings:
        key, equals, text = setting.partition("=")
        if not equals:
            raise UserError(f"--set takes KEY=VALUE, not {setting!r}")
        _known_key(key, "--set")
        try:
            changes[key] = yaml.load(text, Loader=_Loader)
        except yaml.YAMLError as error:
            raise UserError(f"--set {key}: {' '.join(str(error).split())}") from None
    return parse_run(_over(base, changes), "run")


def _expand(study: StudyFile, where: str) -> Iterator[Run]:
    for key in itertools.chain(*study.grid, *study.exclude):
        _known_key(key, where)
    for grid in study.grid:
        for key, values in grid.items():
            if not values:
                raise UserError(f"{where}: grid: {key} is an empty list: there is nothing to run")
    runs: dict[str, Run] = {}
    grids = [_grid(study.base, grid) for grid in study.grid if grid]
    for data in itertools.chain(*grids, (_over(study.base, extra) for extra in study.include)):
        run = parse_run(data, where)
        if not any(_matches(run, pattern, where) for pattern in study.exclude):
            runs.setdefault(run.id, run)
    if study.measure is not None:
        for data in _measured(study, where):
            run = parse_run(data, f"{where}: measure")
            if not any(_matches(run, pattern, where) for pattern in study.exclude):
                runs.setdefault(run.id, run)
    if not runs:
        raise UserError(f"{where}: the grid is empty: there is nothing to run")
    yield from runs.values()


def _grid(base: Mapping[str, Any], grid: Mapping[str, list[Any]]) -> Iterator[dict[str, Any]]:
    for values in itertools.product(*grid.values()):
        yield _over(base, dict(zip(grid, values, strict=True)))


def _measured(study: StudyFile, where: str) -> Iterator[dict[str, Any]]:
    """The measuring runs: no training, one seed, the grids' architectures, tasks and lengths."""
    assert study.measure is not None
    axes: dict[str, list[Any]] = {}
    settings: dict[str, Any] = {"training.steps": 0, "training.warmup_steps": 0}
    for key, value in study.measure.items():
        if key in ("architecture", "task", "length"):
            axes[key] = value if isinstance(value, list) else [value]
        elif key.split(".")[0] in RUN_KEYS[""]:
            settings[key] = value
        elif key in RUN_KEYS["measure"]:
            settings[f"measure.{key}"] = value
        else:
            choices = [*RUN_KEYS[""], *RUN_KEYS["measure"]]
            raise UserError(f"{where}: measure: {unknown('key', key, choices)}")
    for key in ("architecture", "task", "length"):
        found = [value for grid in study.grid for value in grid.get(key, [])]
        if key not in axes and found:
            axes[key] = found
    if any(not values for values in axes.values()):
        raise UserError(f"{where}: measure: an empty list: there is nothing to measure")
    for data in _grid(study.base, axes):
        yield _over(data, settings)


def _over(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """`base` changed: a dotted key reaches inside, a mapping changes only what it names."""
    result = dict(base)
    for key, value in changes.items():
        head, _, rest = key.partition(".")
        if rest:
            inner = result.get(head, {})
            if isinstance(inner, str):
                inner = {"name": inner}
            result[head] = _over(inner, {rest: value})
        elif (
            isinstance(value, Mapping)
            and isinstance(result.get(head), Mapping)
            and "name" not in value
        ):
            result[head] = _over(result[head], value)
        else:
            result[head] = value
    return result


def _known_key(key: str, where: str) -> None:
    section, _, last = key.rpartition(".")
    if section.split(".")[0] in ("architecture", "task"):
        return  # an option: the catalogue knows
    if section not in RUN_KEYS:
        raise UserError(f"{where}: {unknown('section', section, filter(None, RUN_KEYS))}")
    if last not in RUN_KEYS[section]:
        place = f"{where}: {section}" if section else where
        raise UserError(f"{place}: {unknown('key', last, RUN_KEYS[section])}")


def _matches(run: Run, pattern: Mapping[str, Any], where: str) -> bool:
    if not pattern:
        raise UserError(f"{where}: exclude: an empty pattern would leave out everything")
    return all(
        _value_matches(_lookup(run, key), value if isinstance(value, list) else [value])
        for key, value in pattern.items()
    )


def _lookup(run: Run, key: str) -> Any:
    found: Any = run
    for part in key.split("."):
        if isinstance(found, Choice) and part not in ("name", "label", "options"):
            found = found.options.get(part)
        elif isinstance(found, Mapping):
            found = found.get(part)
        else:
            found = getattr(found, part)
    return found


def _value_matches(found: Any, wanted: list[Any]) -> bool:
    if not isinstance(found, Choice):
        return found in wanted
    return any(
        value in (found.name, str(found))
        if isinstance(value, str)
        else found == Choice.model_validate(value)
        for value in wanted
    )


def _near(path: Path) -> str:
    parent = path.parent
    if not parent.is_dir():
        return ""
    studies = sorted(p.parent.name for p in parent.glob(f"*/{STUDY_FILE}"))
    return f"; studies beside it: {', '.join(studies)}" if studies else ""
