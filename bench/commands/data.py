"""`bench data`: what data there is, and bringing it onto this machine."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bench.errors import UserError, unknown

if TYPE_CHECKING:
    from tasks.data.data_set import DataSet

app = typer.Typer(help="List, fetch and verify the data that tasks read.", no_args_is_help=True)

Names = Annotated[list[str] | None, typer.Argument(metavar="[NAME]...", help="data sets")]


@app.command("list")
def list_() -> None:
    """Print every data set: size, where it is, how it is known, whence, under which licence."""
    sets = _data_sets()
    from tasks.data.cache import cache_folder, size_text, status

    rows: list[tuple[str, ...]] = [("name", "size", "here", "checksum", "from", "licence")]
    for name, data_set in sorted(sets.items()):
        size = "?" if data_set.bytes is None else size_text(data_set.bytes)
        known = _known_by(name) if data_set.files else "-"
        size = size if data_set.files else "-"
        rows.append((name, size, status(name), known, data_set.source, data_set.licence))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (f"{cell:{width}}" for cell, width in zip(row, widths, strict=True))
        print("  ".join(cells).rstrip())
    print(f"cache: {cache_folder()}")


@app.command()
def fetch(
    names: Names = None,
    study: Annotated[
        Path | None, typer.Option(metavar="STUDY", help="all that a study's tasks read")
    ] = None,
) -> None:
    """Download, check and unpack data sets; what is there already is left as it is."""
    sets = _data_sets()
    asked = list(names or [])
    if study is not None:
        asked += _of_study(study)
        if not asked:
            print(f"{study}: its tasks read no data")
    elif not asked:
        raise UserError("name data sets, or --study STUDY; `bench data list` shows what there is")
    from tasks.data.errors import DataError

    failed = False
    for name in dict.fromkeys(asked):
        _data_set(name, sets)
    for name in dict.fromkeys(asked):
        try:
            print(f"{name}  {_fetch(name)}", flush=True)
        except DataError as error:
            failed = True
            print(f"bench: {error}", file=sys.stderr)
    if failed:
        raise typer.Exit(1)


@app.command()
def verify(names: Names = None) -> None:
    """Read every byte of the data in the cache again; exit 1 if a file is not what it should be."""
    sets = _data_sets()
    from tasks.data.cache import cache_folder, status
    from tasks.data.cache import verify as verify_set
    from tasks.data.errors import DataError

    for name in names or []:
        _data_set(name, sets)
    asked = names or [name for name in sorted(sets) if status(name) in ("cache", "unchecked")]
    if not asked:
        print(f"nothing lies in {cache_folder()}")
    failed = False
    for name in dict.fromkeys(asked):
        try:
            verify_set(name)
            print(f"{name}  ok", flush=True)
        except DataError as error:
            failed = True
            print(f"{name}  wrong: {error}", flush=True)
    if failed:
        raise typer.Exit(1)


@app.command()
def path(name: Annotated[str, typer.Argument(metavar="NAME")]) -> None:
    """Print the folder of a data set, verified; exit 1 if it is not on this machine."""
    _data_set(name, _data_sets())
    from tasks.data.cache import set_folder
    from tasks.data.errors import DataError

    try:
        print(set_folder(name))
    except DataError as error:
        print(f"bench: {error}", file=sys.stderr)
        raise typer.Exit(1) from None


def _data_sets() -> dict[str, DataSet]:
    """The table of data sets, without `tasks`, which would import every task and torch with them.

    `tasks.data` is entered among the loaded modules before its parent is: `from tasks.data.x import
    y` then looks for nothing above it (`from tasks.data import x` would).
    """
    if "tasks.data" not in sys.modules:
        parent = importlib.util.find_spec("tasks")
        assert parent is not None
        assert parent.submodule_search_locations is not None
        folder = Path(parent.submodule_search_locations[0]) / "data"
        spec = importlib.util.spec_from_file_location(
            "tasks.data", folder / "__init__.py", submodule_search_locations=[str(folder)]
        )
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules["tasks.data"] = module
        spec.loader.exec_module(module)
    from tasks.data.sets import DATA_SETS

    return DATA_SETS


def _data_set(name: str, sets: dict[str, DataSet]) -> DataSet:
    if name not in sets:
        raise unknown("data set", name, sets)
    return sets[name]


def _of_study(study: Path) -> tuple[str, ...]:
    from bench.catalogue import data_sets
    from bench.study import load

    return data_sets(load(study).runs)


def _known_by(name: str) -> str:
    """Whether a checksum is published; else the one of the first use, shortened."""
    from tasks.data.cache import cache_folder
    from tasks.data.sets import DATA_SETS
    from tasks.data.stamp import read_stamp

    files = DATA_SETS[name].files
    trusted = [file for file in files if not (file.sha256 or file.md5 or file.members)]
    if not trusted:
        return "published"
    stamp = read_stamp(cache_folder() / name)
    seen = [stamp.files[file.name].sha256 for file in trusted if stamp and file.name in stamp.files]
    return f"first use: {', '.join(digest[:12] for digest in seen)}" if seen else "first use"


def _fetch(name: str) -> Path:
    """Fetch a data set under a progress bar, if there is a terminal."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    from tasks.data.fetch import fetch as fetch_set

    console = Console(stderr=True, highlight=False)
    columns = (
        TextColumn("{task.description}", markup=False),
        *(BarColumn(), DownloadColumn(binary_units=True)),
        *(TransferSpeedColumn(), TimeRemainingColumn()),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        begun = {}

        def show(file: str, had: int, total: int | None) -> None:
            if file not in begun:
                begun[file] = bar.add_task(file, total=total)
            bar.update(begun[file], completed=had, total=total)

        def wait() -> None:
            console.print(f"{name}: another process is fetching it; waiting")

        return fetch_set(name, show, wait)
