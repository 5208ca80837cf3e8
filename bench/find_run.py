"""Runs by the beginning of their id, wherever their study is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from bench.errors import UserError
from bench.records import packed
from bench.records.store import Store
from bench.spec import ID_LENGTH, is_id
from bench.study import STUDY_FILE, load

RESULTS = Path("results")
"""Where studies are looked for: in the folders of this one, and in theirs."""
N_NAMED = 6


@dataclass(frozen=True, order=True)
class Place:
    """A run and the folder of its study."""

    folder: Path
    run_id: str

    @property
    def log(self) -> Path:
        """Where its worker printed."""
        return self.folder / "work" / f"{self.run_id}.log"


def find(beginning: str, study: Path | None = None) -> Place:
    """The one run whose id begins so, among those with a row or a log, or else among all.

    Raises:
        UserError: no run, or several, or no beginning of an id.
    """
    beginning = beginning.strip().lower()
    digits = beginning + "0" * (ID_LENGTH - len(beginning))
    if not beginning or not is_id(digits):
        raise UserError(
            f"{beginning!r} is no run id: ids are {ID_LENGTH} hex digits, and some will do"
        )
    folders = [folder_of(study)] if study is not None else list(_studies())
    for ids in (_begun, _described):
        found = sorted(
            Place(folder, run_id)
            for folder in folders
            for run_id in _ids(ids, folder, asked_for=study is not None)
            if run_id.startswith(beginning)
        )
        if len(found) == 1:
            return found[0]
        if found:
            raise _several(beginning, found)
    where = f"in {study}" if study is not None else f"in the studies of {RESULTS.absolute()}"
    raise UserError(f"no run {beginning} {where}; --study names another one")


def _ids(ids: Callable[[Path], Iterator[str]], folder: Path, *, asked_for: bool) -> set[str]:
    """The ids in a folder; one that nobody named may be damaged without being in the way."""
    found: set[str] = set()
    try:
        found.update(ids(folder))
    except (UserError, OSError):
        if asked_for:
            raise
    return found


def _studies() -> Iterator[Path]:
    for pattern in ("*", "*/*"):
        for folder in sorted(RESULTS.glob(pattern)):
            if any((folder / name).exists() for name in (STUDY_FILE, "rows", "rows.parquet")):
                yield folder


def folder_of(study: Path) -> Path:
    """The folder of a study that is named by it, or by the file in it.

    Raises:
        UserError: there is none.
    """
    folder = study.parent if study.is_file() else study
    if not folder.is_dir():
        raise UserError(f"no study at {study}")
    return folder


def _begun(folder: Path) -> Iterator[str]:
    """Runs that have a row or a log."""
    store = Store(folder)
    for place in (store.live_folder, folder / "work"):
        if place.is_dir():
            yield from (path.stem for path in place.iterdir() if is_id(path.stem))
    yield from packed.ids(store.packed_file)


def _described(folder: Path) -> Iterator[str]:
    """Runs that the study asks for."""
    if (folder / STUDY_FILE).is_file():
        yield from (run.id for run in load(folder).runs)


def _several(beginning: str, found: list[Place]) -> UserError:
    shown = ", ".join(f"{place.run_id} in {place.folder}" for place in found[:N_NAMED])
    more = f" and {len(found) - N_NAMED} more" if len(found) > N_NAMED else ""
    mend = "give more digits" if len({p.run_id for p in found}) > 1 else "say which with --study"
    return UserError(f"{beginning} is the beginning of several runs: {shown}{more}; {mend}")
