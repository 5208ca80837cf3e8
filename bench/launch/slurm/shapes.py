"""Runs grouped by what they need of a cluster, and packed into the elements of a job array.

An element is one job of the array: its cells run one after another in one warm process. Pure.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Literal, TypeAlias

from bench.launch.measuring import sessions
from bench.records.row import Row
from bench.spec import Run

UNKNOWN_CELL_S = 60.0
"""What a cell is taken to need as long as no row of its study tells."""
OVERHEAD_S = 0.3
"""What each cell of an element costs beside its own work."""

Kind: TypeAlias = tuple[str, str, int]


@dataclass(frozen=True, kw_only=True)
class Shape:
    """What a cell needs: cells of one shape are one job array."""

    nodes: int
    devices: int  # per node, each with a process of its own
    accelerator: Literal["auto", "cpu", "cuda"]
    threads: int  # of each process
    memory_bytes: int | None  # of each process
    purpose: Literal["train", "measure"]

    @property
    def n_ranks(self) -> int:
        """Processes of one cell."""
        return self.nodes * self.devices

    def __str__(self) -> str:
        parts = [
            "measuring" if self.purpose == "measure" else "",
            f"{self.nodes} nodes" if self.nodes > 1 else "",
            f"{self.devices} processes" if self.devices > 1 else "",
            "" if self.accelerator == "auto" else self.accelerator,
            f"{self.threads} thread{'s'[: self.threads != 1]}",
            f"{self.memory_bytes} bytes" if self.memory_bytes else "",
        ]
        return ", ".join(part for part in parts if part)


@dataclass(frozen=True)
class Element:
    """The cells of one job of an array, in their order, and what they are thought to need."""

    runs: tuple[Run, ...]
    seconds: float


@dataclass(frozen=True)
class Array:
    """One job array: elements that need the same."""

    shape: Shape
    elements: tuple[Element, ...]

    @property
    def n_cells(self) -> int:
        """How many cells its elements have together."""
        return sum(len(element.runs) for element in self.elements)


class Estimate:
    """How long a cell takes, by the rows of its study."""

    def __init__(self, rows: Iterable[Row]) -> None:
        """Read the times of rows that ended well."""
        by_kind: dict[Kind, list[float]] = defaultdict(list)
        for row in rows:
            seconds = row.provenance.get("seconds")
            if row.status == "ok" and isinstance(seconds, int | float):
                by_kind[_kind_of_row(row)].append(seconds)
        self.medians = {kind: median(found) for kind, found in by_kind.items()}
        everything = [seconds for found in by_kind.values() for seconds in found]
        self.otherwise = median(everything) if everything else UNKNOWN_CELL_S

    def seconds(self, run: Run) -> float:
        """Of one cell in an element."""
        return self.medians.get(_kind(run), self.otherwise) + OVERHEAD_S


def arrays(
    runs: Iterable[Run], estimate: Estimate, target_s: float, max_elements: int
) -> list[Array]:
    """The job arrays of runs: elements of about `target_s`, at most `max_elements` in an array.

    Cells of several processes are not packed, as each is a job step of its own. More of them than
    an array may have are left out: they stay missing, and the next sweep takes them up.
    """
    by_shape: dict[Shape, list[Run]] = defaultdict(list)
    for run in runs:
        by_shape[shape_of(run)].append(run)
    return [
        Array(shape, tuple(_elements(shape, found, estimate, target_s, max_elements)))
        for shape, found in by_shape.items()
    ]


def shape_of(run: Run) -> Shape:
    """What a run needs."""
    resources = run.resources
    return Shape(
        nodes=resources.nodes,
        devices=resources.devices,
        accelerator=resources.accelerator,
        threads=resources.threads,
        memory_bytes=resources.memory_bytes,
        purpose=run.purpose,
    )


def _elements(
    shape: Shape, runs: list[Run], estimate: Estimate, target_s: float, max_elements: int
) -> list[Element]:
    if shape.purpose == "measure":  # what is timed in one session is compared
        groups: Sequence[Sequence[Run]] = list(sessions(runs))
    elif shape.n_ranks > 1:
        groups = [[run] for run in runs]
    else:
        runs = sorted(runs, key=_kind)  # stable: the study's order within a kind
        needed = {run.id: estimate.seconds(run) for run in runs}
        groups = _packed(runs, needed, target_s)
        while len(groups) > max_elements:
            target_s *= 1.0 + 0.5 * (len(groups) / max_elements)
            groups = _packed(runs, needed, target_s)
    return [
        Element(tuple(group), sum(map(estimate.seconds, group))) for group in groups[:max_elements]
    ]


def _packed(runs: Sequence[Run], needed: Mapping[str, float], target_s: float) -> list[list[Run]]:
    """Runs in their order, cut wherever the target is reached."""
    groups: list[list[Run]] = []
    spent = target_s
    for run in runs:
        if spent + needed[run.id] / 2 > target_s:
            groups.append([])
            spent = 0.0
        groups[-1].append(run)
        spent += needed[run.id]
    return groups


def _kind(run: Run) -> Kind:
    return (run.architecture.name, run.task.name, run.length)


def _kind_of_row(row: Row) -> Kind:
    """The same of what a row says of its run, which is not checked: thousands are read."""
    names = (row.run.get(key, {}) for key in ("architecture", "task"))
    architecture, task = (str(name.get("name")) for name in names)
    return (architecture, task, row.run.get("length", 0))
