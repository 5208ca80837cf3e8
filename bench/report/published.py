"""What papers print: results/published.csv, beside our rows and never among them.

Every number keeps its citation, and all versions of one are shown: the same LSTM on sequential
MNIST is printed as 87.2, 92.9 and 98.8. results/published_names.yaml says which of our tasks and
architectures a name stands for, and what differs; a name that is not there is unmatched.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import BeforeValidator, Field, JsonValue, ValidationError

from bench import plain_yaml
from bench.errors import UserError, from_validation, unknown
from bench.labels import Labels
from bench.records.markdown import escape, finite, number, table
from bench.report.document import Heading, Paragraph, Part, Table, as_markdown
from bench.spec import Choice, Line, Run, Spec, keys_of
from bench.study import Study

FOLDER = Path(__file__).resolve().parents[2] / "results"
NUMBERS_FILE = FOLDER / "published.csv"
NAMES_FILE = FOLDER / "published_names.yaml"
COLUMNS = ("task", "architecture", "metric", "value", "params", "citation", "year")
REQUIRED = ("task", "architecture", "metric", "value", "citation", "year")
FLAG = "reported, not run"
UNMATCHED = "unmatched"
HEADINGS = (
    *("task", "length", "architecture", "reported as", "value", "metric"),
    *("in our unit", "parameters", "differs", "citation"),
)
RIGHT = frozenset(HEADINGS.index(name) for name in ("length", "value", "in our unit"))
NOTE = (
    "Numbers as printed, none of them run here: they are of other code, budgets and splits, and "
    "are never part of a mean, a rank or an interval. All versions that were printed are shown."
)


def _listed(given: object) -> object:
    return given if given is None or isinstance(given, list) else [given]


Options = Annotated[dict[str, tuple[JsonValue, ...]], Field(default_factory=dict)]
"""The values that an option may have; null: it is not given."""


class TaskName(Spec):
    """What a paper's task is here."""

    task: str
    length: Annotated[tuple[int, ...] | None, BeforeValidator(_listed)] = None  # None: any
    options: Options
    metric: str  # the printed one that `column` is like
    column: str  # of the tidy table
    factor: float = Field(1.0, gt=0)  # from what is printed to what the column holds
    differs: Line | None = None


class ArchitectureName(Spec):
    """Which architectures here a paper's name may stand beside."""

    ours: tuple[str, ...] = Field(min_length=1)
    options: Options
    differs: Line | None = None


class Names(Spec):
    """What papers call things."""

    tasks: dict[str, TaskName]
    architectures: dict[str, ArchitectureName]


@dataclass(frozen=True, kw_only=True)
class Number:
    """One printed number."""

    task: str  # these three as the table here names them
    architecture: str
    metric: str
    value: str  # as printed, which may be no number: FAIL, x
    params: str
    citation: str
    year: int
    our_task: TaskName | None  # None: unmatched
    our_architecture: ArchitectureName | None

    @property
    def reported(self) -> float | None:
        """The value in the unit of our column, if it is a number and there is such a column."""
        if self.our_task is None:
            return None
        try:
            return finite(float(self.value) * self.our_task.factor)
        except ValueError:
            return None

    @property
    def matched(self) -> bool:
        """Whether task and architecture both are ours."""
        return self.our_task is not None and self.our_architecture is not None

    @property
    def cited(self) -> str:
        """Where it is printed, and when."""
        return self.citation + ("" if str(self.year) in self.citation else f" ({self.year})")


@dataclass(frozen=True, kw_only=True)
class Reported:
    """A printed number beside a cell of a study."""

    number: Number
    task: str  # the labels of the study
    length: int
    architecture: str
    column: str
    value: float | None  # in the column's unit
    differs: str


def read(numbers: Path = NUMBERS_FILE, names: Path = NAMES_FILE) -> tuple[Number, ...]:
    """Every printed number, in the order of the file.

    Raises:
        UserError: a file is missing, or says what no number can be.
    """
    known = _names(names)
    found = []
    reader = csv.DictReader(io.StringIO(_text(numbers)), restkey="surplus", strict=True)
    try:
        if tuple(reader.fieldnames or ()) != COLUMNS:
            given = ", ".join(map(str, reader.fieldnames or ())) or "none"
            raise UserError(f"{numbers}: the columns are {', '.join(COLUMNS)}, not {given}")
        for line in reader:
            found.append(_number(line, known, f"{numbers}: line {reader.line_num}"))
    except csv.Error as error:
        raise UserError(f"{numbers}: line {reader.line_num}: {error}") from None
    return tuple(found)


def select(
    numbers: Sequence[Number], *, task: str | None = None, architecture: str | None = None
) -> list[Number]:
    """Those of a task and an architecture, by the paper's name or ours.

    Raises:
        UserError: nothing has this name.
    """
    tasks = {n.task for n in numbers} | {n.our_task.task for n in numbers if n.our_task}
    architectures = {name for n in numbers for name in _architecture_names(n)}
    if task is not None and task not in tasks:
        raise unknown("published task", task, tasks)
    if architecture is not None and architecture not in architectures:
        raise unknown("published architecture", architecture, architectures)
    return [
        n
        for n in numbers
        if task in (None, n.task, n.our_task.task if n.our_task else None)
        and (architecture is None or architecture in _architecture_names(n))
    ]


def for_study(study: Study, numbers: Iterable[Number] | None = None) -> list[Reported]:
    """The printed numbers that stand beside a cell of a study, in the study's order."""
    of_task: dict[str, list[Number]] = {}
    for n in read() if numbers is None else numbers:
        if n.our_task is not None and n.matched:
            of_task.setdefault(n.our_task.task, []).append(n)
    tasks, architectures = Labels("task"), Labels("architecture")
    cells = {
        (tasks.of(run.task), run.length, architectures.of(run.architecture)): run
        for run in study.runs
        if run.task.name in of_task and run.purpose == "train"
    }
    return [
        one for run in cells.values() for n in of_task[run.task.name] for one in _beside(n, run)
    ]


def beside(study: Study) -> list[Reported]:
    """As `for_study`; nothing where no table of published numbers is installed."""
    return for_study(study) if NUMBERS_FILE.exists() else []


def parts(lines: Sequence[Reported]) -> list[Part]:
    """A section of a document; nothing without lines."""
    if not lines:
        return []
    return [Heading(2, FLAG.capitalize()), Paragraph(NOTE), table_of(lines)]


def table_of(lines: Sequence[Reported]) -> Table:
    """A line for each number."""
    return Table(
        HEADINGS,
        [
            [
                one.task,
                f"{one.length:,}",
                one.architecture,
                one.number.architecture,
                one.number.value,
                one.number.metric,
                number(one.value),
                one.number.params,
                one.differs,
                one.number.cited,
            ]
            for one in lines
        ],
        RIGHT,
    )


def markdown(lines: Sequence[Reported]) -> str:
    """The section as Markdown."""
    return as_markdown(parts(lines))


def list_text(numbers: Sequence[Number]) -> str:
    """All of them as Markdown, the unmatched ones too."""
    rows = []
    for n in numbers:
        length = n.our_task.length if n.our_task else None
        rows.append(
            [
                escape(n.our_task.task if n.our_task else f"{n.task} ({UNMATCHED})"),
                " or ".join(f"{one:,}" for one in length or ()),
                escape(", ".join(n.our_architecture.ours) if n.our_architecture else UNMATCHED),
                *map(escape, (n.architecture, n.value, n.metric)),
                number(n.reported),
                escape(n.params),
                escape(_joined(*_differences(n))),
                escape(n.cited),
            ]
        )
    n_matched = sum(n.matched for n in numbers)
    tally = f"{len(numbers)} {FLAG}: {n_matched} have a task and an architecture here\n"
    return f"{table(HEADINGS, rows, RIGHT)}\n{tally}" if rows else tally


def list_csv(numbers: Sequence[Number]) -> str:
    """The file's columns, then what they are here."""
    output = io.StringIO()
    writer = csv.writer(output, lineterminator="\n")
    ours = ("our_task", "our_lengths", "our_architectures", "our_column", "our_value")
    writer.writerow([*COLUMNS, "flag", *ours, "differs"])
    for n in numbers:
        task, architecture = n.our_task, n.our_architecture
        printed = [getattr(n, column) for column in COLUMNS]
        here = [
            task.task if task else UNMATCHED,
            " ".join(map(str, task.length or ())) if task else "",
            " ".join(architecture.ours) if architecture else UNMATCHED,
            task.column if task else "",
            "" if n.reported is None else f"{n.reported:.10g}",
        ]
        writer.writerow([*printed, FLAG, *here, _joined(*_differences(n))])
    return output.getvalue()


def _names(path: Path) -> Names:
    given = plain_yaml.parse(_text(path), str(path))
    try:
        return Names.model_validate(given)
    except ValidationError as error:
        choices = keys_of(Names) | _keys_of_entries(given)
        raise from_validation(error, str(path), choices) from None


def _keys_of_entries(given: object) -> dict[str, list[str]]:
    """The keys of every task's and architecture's entry, by dotted path."""
    found: dict[str, list[str]] = {}
    for section, model in (("tasks", TaskName), ("architectures", ArchitectureName)):
        entries = given.get(section) if isinstance(given, Mapping) else None
        for name in entries if isinstance(entries, Mapping) else ():
            found[f"{section}.{name}"] = list(model.model_fields)
    return found


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UserError(f"{path} does not exist: the published numbers are kept there") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read {path}: {error}") from None


def _number(line: Mapping[str, str | None], names: Names, where: str) -> Number:
    if line.get("surplus") or None in line.values():
        raise UserError(f"{where}: a line has {len(COLUMNS)} columns: {', '.join(COLUMNS)}")
    cells = {name: (line[name] or "").strip() for name in COLUMNS}
    for name in REQUIRED:
        if not cells[name]:
            raise UserError(f"{where}: {name} is empty")
    if not (cells["year"].isdecimal() and len(cells["year"]) == 4):
        raise UserError(f"{where}: year has four digits, not {cells['year']!r}")
    task = names.tasks.get(cells["task"])
    return Number(
        task=cells["task"],
        architecture=cells["architecture"],
        metric=cells["metric"],
        value=cells["value"],
        params=cells["params"],
        citation=cells["citation"],
        year=int(cells["year"]),
        our_task=task if task is not None and task.metric == cells["metric"] else None,
        our_architecture=names.architectures.get(cells["architecture"]),
    )


def _architecture_names(n: Number) -> set[str]:
    return {n.architecture, *(n.our_architecture.ours if n.our_architecture else ())}


def _beside(n: Number, run: Run) -> Iterator[Reported]:
    """The number, which is of the run's task, beside the cell of a run, if it is of this cell."""
    task, architecture = n.our_task, n.our_architecture
    assert task is not None
    assert architecture is not None
    if task.length is not None and run.length not in task.length:
        return
    if run.architecture.name not in architecture.ours:
        return
    if not (_allows(task.options, run.task) and _allows(architecture.options, run.architecture)):
        return
    changed = [
        f"here with {key} {value}"
        for choice, known in ((run.task, task.options), (run.architecture, architecture.options))
        for key, value in sorted(choice.options.items())
        if key not in known
    ]
    yield Reported(
        number=n,
        task=str(run.task),
        length=run.length,
        architecture=str(run.architecture),
        column=task.column,
        value=n.reported,
        differs=_joined(*_differences(n), *changed),
    )


def _allows(options: Mapping[str, tuple[JsonValue, ...]], choice: Choice) -> bool:
    # True is no 1 here.
    return all(
        any(type(value) is type(given) and value == given for value in values)
        for key, values in options.items()
        for given in [choice.options.get(key)]
    )


def _differences(n: Number) -> tuple[str | None, str | None]:
    return (
        n.our_task.differs if n.our_task else None,
        n.our_architecture.differs if n.our_architecture else None,
    )


def _joined(*parts: str | None) -> str:
    return "; ".join(filter(None, parts))
