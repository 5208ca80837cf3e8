"""`bench merge`: the rows of one study that ran on several clusters, in one folder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bench.errors import UserError

if TYPE_CHECKING:
    from bench.records.merge import Gathered

N_NAMED = 10  # of each kind of thing that is left alone


def merge(
    folders: Annotated[
        list[Path], typer.Argument(metavar="A B...", help="folders with the rows of one study")
    ],
    into: Annotated[
        Path | None, typer.Option(metavar="C", help="the folder that gets the rows; default: A")
    ] = None,
) -> None:
    """Join the rows of a study from several clusters: all of them, or none if two contradict.

    Files that are no rows and rows of no run of the study are named and left where they are.
    """
    from bench.records import files
    from bench.records.merge import gather
    from bench.records.store import Store
    from bench.study import STUDY_FILE, load

    target = into or folders[0]
    _check_folders(folders)
    given = target if (target / STUDY_FILE).is_file() else folders[0]
    wanted = {run.id for run in load(given).runs}
    if given != target:
        _check_same_study(folders, wanted)
    others = [folder for folder in folders if not _same(folder, target)]
    found = gather([Store(folder) for folder in (target, *others)], wanted)
    if given != target:
        files.write_atomically(target / STUDY_FILE, (given / STUDY_FILE).read_bytes())
    n_added = Store(target).add(found.rows, ", ".join(map(str, others)))
    for line in _left_alone(found):
        print(line)
    print(f"{n_added} rows added to {target}, which has {len(found.rows)} of {len(wanted)} cells")


def _check_folders(folders: list[Path]) -> None:
    if len(folders) < 2:
        raise UserError("merge takes at least two folders: bench merge A B")
    for index, folder in enumerate(folders):
        if not folder.is_dir():
            raise UserError(f"no folder {folder}")
        if not (folder / "rows").exists() and not (folder / "rows.parquet").exists():
            raise UserError(f"no rows in {folder}: it has neither rows/ nor rows.parquet")
        for other in folders[:index]:
            if _same(folder, other):
                raise UserError(f"{other} and {folder} are one folder")


def _check_same_study(folders: list[Path], wanted: set[str]) -> None:
    """The first folder's study becomes that of the new one, so the others must not ask for more."""
    from bench.study import STUDY_FILE, load

    for folder in folders[1:]:
        if not (folder / STUDY_FILE).is_file():
            continue
        ids = {run.id for run in load(folder).runs}
        if ids != wanted:
            raise UserError(
                f"{folders[0]} and {folder} are different studies: {len(ids - wanted)} runs are in "
                f"the second alone, {len(wanted - ids)} in the first alone; write the "
                f"{STUDY_FILE} that asks for all of them and merge into its folder"
            )


def _left_alone(found: Gathered) -> Iterator[str]:
    for problem in found.problems:
        yield f"left alone: {problem}"
    for folder, ids in found.strangers.items():
        yield f"left alone: {_named(ids)} in {folder}, of no run of the study"
    if found.duplicates:
        yield f"the same in more than one folder: {_named(found.duplicates)}"


def _named(ids: list[str]) -> str:
    shown = ", ".join(ids[:N_NAMED])
    more = f" and {len(ids) - N_NAMED} more" if len(ids) > N_NAMED else ""
    return f"{len(ids)} row{'s'[: len(ids) != 1]} ({shown}{more})"


def _same(first: Path, second: Path) -> bool:
    return first.resolve() == second.resolve()
