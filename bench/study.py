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
    reproduces:                 # a table of a paper, see `bench published` and `bench reproduction`
      citation: "Bai, Kolter, Koltun 2018, arXiv 1803.01271, Table 1"
      tolerance: 0.01           # in the unit of the score
"""

from __future__ import annotations

import difflib
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import Field, JsonValue, ValidationError, field_validator

from bench import plain_yaml
from bench.errors import UserError, from_validation, unknown
from bench.labels import check_labels
from bench.spec import RUN_KEYS, Choice, Line, Run, Spec, keys_of, parse_run

STUDY_FILE = "study.yaml"
BATCH_KEYS = ("training.batch_size", "training.tokens_per_batch")  # one of them, not both


class Reproduces(Spec):
    """The published numbers that a study is held against."""

    citation: Line  # as results/published.csv has it
    tolerance: float = Field(gt=0)  # how far a score may lie from what is printed, in its unit
    task: Line | None = None  # only this task of the paper, by its name there; None: all
    architecture: Line | None = None


class StudyFile(Spec):
    """What `study.yaml` may hold."""

    title: Line
    question: Line | None = None
    base: dict[str, JsonValue] = Field(default_factory=dict)
    grid: list[dict[str, list[JsonValue]]] = Field(default_factory=list)  # or one grid alone
    include: list[dict[str, JsonValue]] = Field(default_factory=list)
    exclude: list[dict[str, JsonValue]] = Field(default_factory=list)
    measure: dict[str, JsonValue] | None = None
    reproduces: Reproduces | None = None

    @field_validator("grid", mode="before")
    @classmethod
    def _several(cls, given: object) -> object:
        grids = [given] if isinstance(given, Mapping) else given
        if not isinstance(grids, list) or not all(isinstance(grid, Mapping) for grid in grids):
            return given
        return [
            {key: value if isinstance(value, list) else [value] for key, value in grid.items()}
            for grid in grids
        ]


@dataclass(frozen=True)
class Study:
    """A study and the runs it asks for, each once, in the order of the file."""

    name: str
    folder: Path
    title: str
    question: str
    runs: tuple[Run, ...]
    reproduces: Reproduces | None = None
    base: Mapping[str, Any] = field(default_factory=dict, compare=False)  # of every run


def load(path: Path) -> Study:
    """Read a study from its folder or its file.

    Raises:
        UserError: the file is missing, is no YAML, or says what no run can be.
    """
    file = path / STUDY_FILE if path.is_dir() else path
    try:
        text = file.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UserError(f"no study at {path}: {file} does not exist{_near(path)}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read {file}: {error}") from None
    given = plain_yaml.parse(text, str(file))
    if not isinstance(given, Mapping):
        raise UserError(
            f"{file} has to be a mapping with the keys {', '.join(StudyFile.model_fields)}"
        )
    try:
        parsed = StudyFile.model_validate(given)
    except ValidationError as error:
        choices = keys_of(StudyFile) | keys_of(Reproduces, "reproduces.")
        raise from_validation(error, str(file), choices) from None
    runs = tuple(_expand(parsed, str(file)))
    return Study(
        name=file.resolve().parent.name,
        folder=file.parent,
        title=parsed.title,
        question=parsed.question or "",
        runs=runs,
        reproduces=parsed.reproduces,
        base=parsed.base,
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
        check_key(key, "--set")
        changes[key] = plain_yaml.parse(text, f"--set {key}")
    return parse_run(_over(base, changes, "run"), "run")


def _expand(study: StudyFile, where: str) -> Iterator[Run]:
    for key in itertools.chain(study.base, *study.grid, *study.include, *study.exclude):
        check_key(key, where)
    for grid in study.grid:
        for key, values in grid.items():
            if not values:
                raise UserError(f"{where}: grid: {key} is an empty list: there is nothing to run")
    base = _over({}, study.base, where)
    grids = [_trained(base, grid, where) for grid in study.grid if grid]
    extras = (parse_run(_over(base, extra, where), where) for extra in study.include)
    measured = _measured(study, base, where) if study.measure is not None else ()
    runs: dict[str, Run] = {}
    again: list[Run] = []  # under another label perhaps
    unused = dict(enumerate(study.exclude))
    for run in itertools.chain(*grids, extras, measured):
        matching = [
            index
            for index, pattern in enumerate(study.exclude)
            if matches(run, pattern, f"{where}: exclude")
        ]
        for index in matching:
            unused.pop(index, None)
        if not matching and runs.setdefault(run.id, run) is not run:
            again.append(run)
    if unused:
        raise UserError(f"{where}: exclude: no run matches {next(iter(unused.values()))}")
    if not runs:
        raise UserError(f"{where}: the grid is empty: there is nothing to run")
    try:
        check_labels([*runs.values(), *again])
    except UserError as error:
        raise UserError(f"{where}: {error}") from None
    yield from runs.values()


def _trained(base: Mapping[str, Any], grid: Mapping[str, list[Any]], where: str) -> Iterator[Run]:
    """The runs of a grid. Those that differ in their seed alone are parsed once: it takes long."""
    seeds: dict[int, int] = {}  # those that were parsed, by place
    parsed: dict[tuple[int, ...], Run] = {}  # one by the places on the other axes
    for places in itertools.product(*(range(len(values)) for values in grid.values())):
        others = dict(zip(grid, places, strict=True))
        seed = others.pop("seed", -1)
        key = tuple(others.values())
        if seed in seeds and key in parsed:
            yield parsed[key].with_seed(seeds[seed])
            continue
        values = {name: grid[name][place] for name, place in zip(grid, places, strict=True)}
        run = parsed[key] = parse_run(_over(base, values, where), where)
        seeds[seed] = run.seed
        yield run


def _grid(
    base: Mapping[str, Any], grid: Mapping[str, list[Any]], where: str
) -> Iterator[dict[str, Any]]:
    for values in itertools.product(*grid.values()):
        yield _over(base, dict(zip(grid, values, strict=True)), where)


def _measured(study: StudyFile, base: Mapping[str, Any], where: str) -> Iterator[Run]:
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
    for one, other in (BATCH_KEYS, BATCH_KEYS[::-1]):
        if settings.get(one) is not None:
            settings.setdefault(other, None)  # of the base: it held for the training
    for key in ("architecture", "task", "length"):
        found = [value for grid in study.grid for value in grid.get(key, [])]
        if key not in axes and found:
            axes[key] = found
    if any(not values for values in axes.values()):
        raise UserError(f"{where}: measure: an empty list: there is nothing to measure")
    for data in _grid(base, axes, where):
        yield parse_run(_over(data, settings, where), where)


def _over(base: Mapping[str, Any], changes: Mapping[str, Any], where: str) -> dict[str, Any]:
    """`base` changed: a dotted key reaches inside, a mapping changes only what it names.

    Dotted keys come last, so that the order of keys in a file means nothing.
    """
    result = dict(base)
    for key in sorted(changes, key=lambda key: "." in key):
        value, (head, _, rest) = changes[key], key.partition(".")
        held = result.get(head)
        if rest:
            inner = {"name": held} if isinstance(held, str) else {} if held is None else held
            if not isinstance(inner, Mapping):
                raise UserError(f"{where}: {head} has to be a mapping, not {held!r}")
            result[head] = _over(inner, {rest: value}, where)
        elif head in ("architecture", "task"):
            if isinstance(held, Mapping) and held.keys() - {"name", "label"}:
                raise UserError(
                    f"{where}: {head} {value!r} would drop the options in base, {dict(held)}; "
                    "write them where it is named"
                )
            result[head] = value
        elif isinstance(value, Mapping) and isinstance(held, Mapping):
            result[head] = _over(held, value, where)
        else:
            result[head] = value
    return result


OF_PURPOSE: Mapping[str, Any] = {
    "training.steps": None,
    "training.warmup_steps": 0,
    "measure.instruments": [],
}
"""What decides whether a run trains or measures, and whether it is one at all; with what is so if
nothing is said."""


def over_base(study: Study, run: Run) -> dict[str, Any]:
    """What an `include` says to be this run: whatever differs from the study's base."""
    found: dict[str, Any] = {}
    for key in ("architecture", "task"):
        choice = getattr(run, key)
        label = {} if choice.label is None else {"label": choice.label}
        more = {**choice.options, **label}
        found[key] = {"name": choice.name, **more} if more else choice.name
    found["length"] = run.length
    common = {key: value for key, value in study.base.items() if key.partition(".")[0] not in found}
    stated = _over({}, common, "base")
    settings = _flat(run.model_dump(mode="json"))
    # A base alone need be no run: what makes one is the run's own, and said unless the base has it.
    own = _over(stated, {key: settings[key] for key in OF_PURPOSE}, "base")
    usual = _flat(parse_run({**own, **found}, "base").model_dump(mode="json"))
    said = _flat(stated)
    usual |= {key: said.get(key, OF_PURPOSE[key]) for key in OF_PURPOSE}
    for key, value in settings.items():
        if key.partition(".")[0] not in found and value != usual[key]:
            found[key] = value
    return found


def _flat(data: Mapping[str, Any]) -> dict[str, Any]:
    """The keys of a run, those of its sections dotted."""
    found: dict[str, Any] = {}
    for key, value in data.items():
        section = key in RUN_KEYS and isinstance(value, Mapping)
        found |= (
            {f"{key}.{name}": part for name, part in value.items()} if section else {key: value}
        )
    return found


def check_key(key: str, where: str) -> None:
    """Raise UserError if no run has this dotted key; options are the catalogue's to know."""
    section, _, last = key.rpartition(".")
    if section.split(".")[0] in ("architecture", "task"):
        return
    if section not in RUN_KEYS:
        raise UserError(f"{where}: {unknown('section', section, filter(None, RUN_KEYS))}")
    if last not in RUN_KEYS[section]:
        place = f"{where}: {section}" if section else where
        raise UserError(f"{place}: {unknown('key', last, RUN_KEYS[section])}")


def matches(run: Run, pattern: Mapping[str, Any], where: str) -> bool:
    """Whether every key of a pattern has, in the run, the value or one of the values given.

    Keys are those of a grid, and `purpose`. An architecture or task is named, with any options, or
    given as a mapping, with these options and no other.

    Raises:
        UserError: an empty pattern, or one with a key that is a section.
    """
    if not pattern:
        raise UserError(f"{where}: an empty pattern would match everything")
    return all(
        _value_matches(_lookup(run, key, where), value if isinstance(value, list) else [value])
        for key, value in pattern.items()
    )


def _lookup(run: Run, key: str, where: str) -> Any:
    head, _, rest = key.partition(".")
    found: Any = getattr(run, head)
    if isinstance(found, Choice) and rest:
        return found.name if rest == "name" else found.options.get(rest)
    for part in filter(None, rest.split(".")):
        found = getattr(found, part)
    if isinstance(found, Spec) and not isinstance(found, Choice):
        raise UserError(f"{where}: {key} is a section; name a key in it: {key}.steps, ...")
    return found


def _value_matches(found: Any, wanted: list[Any]) -> bool:
    """Whether a value is among those wanted; an architecture or task by name, label or mapping."""
    if isinstance(found, Choice):
        return any(
            value in (found.name, str(found), {"name": found.name, **found.options})
            for value in wanted
        )
    # True is no 1 here.
    return any(type(value) is type(found) and value == found for value in wanted) or any(
        isinstance(found, float) and type(value) is int and value == found for value in wanted
    )


def _near(path: Path) -> str:
    parent = path.parent
    if not parent.is_dir():
        return ""
    studies = sorted(p.parent.name for p in parent.glob(f"*/{STUDY_FILE}"))
    close = difflib.get_close_matches(path.name, studies, n=5, cutoff=0.4) or studies[:5]
    return f"; studies beside it: {', '.join(close)}" if close else ""
