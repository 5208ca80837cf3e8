"""`bench show` and `bench logs`: one run, by the beginning of its id."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bench.errors import UserError

if TYPE_CHECKING:
    from bench.find_run import Place
    from bench.records.row import Row
    from bench.spec import Run

app = typer.Typer()

RunArgument = Annotated[str, typer.Argument(metavar="RUN_ID", help="its beginning will do")]
StudyOption = Annotated[
    Path | None, typer.Option("--study", help="default: all studies in results/")
]


@app.command()
def show(
    run_id: RunArgument,
    study: StudyOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="the row as it is")] = False,
) -> None:
    """Print everything about one run: its row, its curves, its log, and what repeats it."""
    from bench.find_run import find
    from bench.records.store import Store, canonical

    place = find(run_id, study)
    row = next(Store(place.folder).rows([place.run_id]), None)
    if as_json:
        if row is None:
            raise UserError(f"run {place.run_id} in {place.folder} has no row yet")
        print(canonical(row))
        return
    print("\n\n".join(filter(None, _of_row(place, row) if row else _without_row(place))))


@app.command()
def logs(
    run_id: RunArgument,
    study: StudyOption = None,
    path: Annotated[bool, typer.Option("--path", help="print only where the log is")] = False,
) -> None:
    """Print what a run's worker printed, the whole of it; or what its row has kept of it."""
    from bench.find_run import find
    from bench.records.store import Store

    place = find(run_id, study)
    if path:
        print(place.log)
        return
    try:
        text = place.log.read_text(errors="backslashreplace")
    except FileNotFoundError:
        text = ""
    except OSError as error:
        raise UserError(f"cannot read {place.log}: {error.strerror}") from None
    if text.strip():
        sys.stdout.write(text)
        return
    row = next(Store(place.folder).rows([place.run_id]), None)
    if row is not None and row.log_tail:
        print(row.log_tail)
    else:
        print(f"run {place.run_id} in {place.folder} has printed nothing", file=sys.stderr)


def _of_row(place: Place, row: Row) -> Iterator[str]:
    from bench.records.store import Store
    from bench.report.one_row import sections, titled
    from bench.spec import parse_run
    from bench.terminal import can_print

    try:
        run = parse_run(row.run, f"row {row.id}: run")
        name, repeat = str(run), _repeat(run)
    except UserError as error:  # a row of another seqbench
        name, repeat = row.id, f"not here: {error}"
    live = Store(place.folder).live_folder / f"{row.id}.json"
    yield titled(
        name,
        {
            "id": row.id,
            "status": f"{row.status}: {row.reason}" if row.reason else row.status,
            "row": live if live.exists() else f"in {Store(place.folder).packed_file}",
            **_files(place),
            "repeat": repeat,
        },
    )
    yield from sections(row, braille=can_print("\u28ff"))


def _without_row(place: Place) -> Iterator[str]:
    from bench.launch.status import overview
    from bench.records.store import Store
    from bench.report.one_row import flat, titled
    from bench.study import load

    study = load(place.folder)
    cells = overview(study, Store(place.folder)).cells
    cell = next((cell for cell in cells if cell.run.id == place.run_id), None)
    if cell is None:
        yield titled(
            place.run_id, {"status": "no row, and the study does not ask for it"} | _files(place)
        )
        return
    detail = "; ".join(filter(None, (cell.where, cell.reason)))
    state = f"{cell.state}: {detail}" if detail else cell.state
    head = {"id": cell.run.id, "status": state, **_files(place), "repeat": _repeat(cell.run)}
    yield titled(str(cell.run), head)
    yield titled("run", dict(flat(cell.run.model_dump(mode="json"))))


def _files(place: Place) -> dict[str, str]:
    return {"log": str(place.log)} if place.log.exists() else {}


def _repeat(run: Run) -> str:
    from bench.repeat import command

    return command(run)
