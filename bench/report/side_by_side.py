"""Studies put together, so that one page shows them side by side.

Of several studies every architecture is named with its study, `lstm · old`, and such a name is an
architecture of its own to all that summarises, ranks and draws. Of one study nothing is changed.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from bench.errors import UserError
from bench.records.expected import complete
from bench.records.store import Store
from bench.records.tidy import normalise
from bench.report.curves import Curves, by_task
from bench.report.palette import Look, looks, looks_of_studies
from bench.study import Study


@dataclass(frozen=True)
class Part:
    """One of the studies: its runs, under the names that they have on the page."""

    study: Study
    store: Store
    name: str  # empty if it is the only one
    frame: pd.DataFrame

    def own_frame(self) -> pd.DataFrame:
        """The same under the names that the study itself gives."""
        if not self.name:
            return self.frame
        own = self.frame["architecture"].str.removesuffix(f" · {self.name}")
        return self.frame.assign(architecture=own)


@dataclass(frozen=True)
class Joined:
    """All the studies."""

    parts: tuple[Part, ...]
    frame: pd.DataFrame  # the tidy table of all, missing runs too
    shown: dict[str, tuple[str, int]]  # label -> architecture, and the number of its study

    @property
    def title(self) -> str:
        """Of the page."""
        titles = dict.fromkeys(part.study.title for part in self.parts)
        if len(self.parts) == 1:
            return next(iter(titles))
        names = " and ".join(part.name for part in self.parts)
        return f"{' | '.join(titles)}: {names}"

    @property
    def question(self) -> str:
        """What all of them ask, if it is one question."""
        questions = {part.study.question for part in self.parts}
        return questions.pop() if len(questions) == 1 else ""

    @property
    def marks(self) -> str:
        """`full marks: old; hollow marks: new`: what no legend of an image can show."""
        if len(self.parts) == 1:
            return ""
        kinds = ["full", *["half full"] * (len(self.parts) - 2), "hollow"]
        pairs = zip(kinds, self.parts, strict=True)
        return "; ".join(f"{kind} marks: {part.name}" for kind, part in pairs)

    def default_paths(self) -> tuple[Path, Path]:
        """Where the page goes and where the charts do: into the first study."""
        folder = self.parts[0].study.folder
        others = "".join(f"-with-{part.name}" for part in self.parts[1:])
        ending = re.sub(r"[^\w.-]+", "_", others)
        return folder / f"report{ending}.html", folder / f"charts{ending}"

    def looks(self) -> list[Look]:
        """How each label is drawn."""
        if len(self.parts) == 1:
            return looks(list(self.shown))
        return looks_of_studies(self.shown, len(self.parts))

    def curves(self, cells: pd.DataFrame) -> dict[str, Curves]:
        """The learning curves of every task, of all the studies that have the same curve."""
        found: dict[str, Curves] = {}
        for part in self.parts:
            for task, curves in by_task(part.frame, cells, part.store).items():
                first = found.setdefault(task, Curves(curves.name, curves.length, []))
                if (first.name, first.length) == (curves.name, curves.length):
                    first.points.extend(curves.points)
        return found


def joined(studies: Sequence[tuple[Study, Store]]) -> Joined:
    """The studies together, in the order given; architectures and tasks in that of the first.

    Raises:
        UserError: a study is given twice.
    """
    if len(studies) == 1:
        study, store = studies[0]
        frame = complete(study, store)
        names = frame["architecture"].unique().tolist()
        shown = {str(name): (str(name), 0) for name in names}
        return Joined((Part(study, store, "", frame),), frame, shown)
    parts, shown = [], {}
    for index, ((study, store), name) in enumerate(zip(studies, names_of(studies), strict=True)):
        frame = complete(study, store)
        for architecture in frame["architecture"].unique().tolist():
            shown[f"{architecture} · {name}"] = (str(architecture), index)
        frame["architecture"] = frame["architecture"] + f" · {name}"
        parts.append(Part(study, store, name, frame))
    architectures = list(dict.fromkeys(architecture for architecture, _ in shown.values()))
    order = sorted(shown, key=lambda label: (architectures.index(shown[label][0]), shown[label][1]))
    frame = _together([part.frame for part in parts], order)
    return Joined(tuple(parts), frame, {label: shown[label] for label in order})


def names_of(studies: Sequence[tuple[Study, Store]]) -> list[str]:
    """What tells the studies apart: the shortest end of their paths that no two of them share.

    Raises:
        UserError: two of them are one.
    """
    paths = [study.folder.resolve() for study, _ in studies]
    for path, n in Counter(paths).items():
        if n > 1:
            raise UserError(f"{path} is given twice; two studies are put side by side")
    for depth in range(1, max(len(path.parts) for path in paths) + 1):
        ends = [str(Path(*path.parts[-depth:])) for path in paths]
        if len(set(ends)) == len(ends):
            return ends
    raise AssertionError("different paths have different ends")


def _together(frames: Sequence[pd.DataFrame], architectures: Sequence[str]) -> pd.DataFrame:
    """The lines of all, each task's together, architectures in this order."""
    filled = [frame.dropna(axis="columns", how="all").astype(object) for frame in frames]
    both = pd.concat([frame for frame in filled if len(frame)] or filled)
    tasks = both["task"].unique().tolist() if len(both) else []
    both = both.assign(
        _task=both["task"].map({task: index for index, task in enumerate(tasks)}),
        _name=both["architecture"].map({name: index for index, name in enumerate(architectures)}),
    )
    both = both.sort_values(["_task", "_name"], kind="stable").drop(columns=["_task", "_name"])
    return normalise(both)
