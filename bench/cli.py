"""The command line. Everything heavy is imported inside the command that needs it."""

from __future__ import annotations

import enum
import io
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bench.commands.certify import certify
from bench.commands.claims import claims
from bench.commands.comparison import app as comparison_app
from bench.commands.data import app as data_app
from bench.commands.instruments import app as instrument_app
from bench.commands.measure import measure
from bench.commands.merge import merge
from bench.commands.published import published
from bench.commands.reproduction import reproduction
from bench.commands.retry import retry
from bench.commands.scaling import app as scaling_app
from bench.commands.shared import (
    StudyArgument,
    TrackersOption,
    check_runs,
    open_study,
    run_here,
    trackers_of,
)
from bench.commands.show import app as show_app
from bench.commands.status import app as status_app
from bench.commands.submit import sweep_on_slurm
from bench.commands.tensorboard import tensorboard
from bench.commands.wandb import app as wandb_app
from bench.commands.work import work
from bench.errors import UserError

if TYPE_CHECKING:
    from bench.records.store import Store
    from bench.spec import Run

app = typer.Typer(
    help="Which sequence architecture at this length, on this hardware, for this kind of task?",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

app.add_typer(data_app, name="data")
app.command()(certify)
app.command()(claims)
app.command()(measure)
app.command(hidden=True)(work)
app.command()(merge)
app.command()(published)
app.command()(reproduction)
app.command()(retry)
app.command()(tensorboard)
app.add_typer(wandb_app, name="wandb")
app.add_typer(scaling_app)
app.add_typer(instrument_app)
app.add_typer(comparison_app)
app.add_typer(show_app)
app.add_typer(status_app)

READER_GONE = 141
"""The exit code when nobody reads the output any more: 128 and the number of SIGPIPE."""

AcrossOption = Annotated[
    bool,
    typer.Option("--across", help="compare machines, precisions and world sizes, with a warning"),
]


class TableFormat(enum.StrEnum):
    """How a table is written."""

    md = "md"
    csv = "csv"
    json = "json"
    parquet = "parquet"


class BoardFormat(enum.StrEnum):
    """How a leaderboard is written."""

    md = "md"
    csv = "csv"
    html = "html"
    latex = "latex"


class Listed(enum.StrEnum):
    """What can be listed."""

    architectures = "architectures"
    tasks = "tasks"


@app.command("list")
def list_(
    what: Annotated[Listed, typer.Argument()],
    long: Annotated[
        bool, typer.Option("--long", help="tasks: kind, length, chance, data and licence too")
    ] = False,
) -> None:
    """Print what can be named in a study, a line each."""
    from bench.listing import descriptions

    if long:
        if what is not Listed.tasks:
            raise UserError("--long is for tasks; of architectures, `bench certify` tells more")
        from bench import details

        print(details.as_text(details.task_table()))
        return
    found = descriptions(what.value)
    width = max(map(len, found))
    for name, description in found.items():
        print(f"{name:{width}}  {description}")


@app.command()
def doctor(
    calibrate: Annotated[
        bool,
        typer.Option("--calibrate", help="measure what products, memory and clock here can do"),
    ] = False,
    threads: Annotated[int, typer.Option(min=1, help="of the runs to calibrate for")] = 1,
) -> None:
    """Print what is installed and which kernel every architecture takes on this machine."""
    from bench import doctor as doctors

    print(doctors.calibration(threads) if calibrate else doctors.report())


@app.command()
def sweep(
    study: StudyArgument,
    workers: Annotated[
        int | None, typer.Option(min=1, help="cells that train at once; default: one per core")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="print the plan and stop")] = False,
    slurm: Annotated[
        str | None,
        typer.Option(metavar="PROFILE", help="submit them: slurm/PROFILE.yaml, or a file"),
    ] = None,
    tracker: TrackersOption = None,
) -> None:
    """Run the cells of a study that have no row yet."""
    from bench.launch import sweep as sweeping

    if slurm is not None:
        if workers is not None:
            raise UserError("--workers is for this machine; a profile's throttle is for Slurm")
        trackers = trackers_of(tracker, slurm)
        sweep_on_slurm(study, slurm, dry_run=dry_run, trackers=trackers)
        return
    trackers = trackers_of(tracker)
    loaded, store = open_study(study)
    planned = sweeping.plan(loaded, store)
    if dry_run or planned.missing:
        check_runs(study, [*planned.train, *planned.measure])
    if dry_run:
        for run in (*planned.train, *planned.measure):
            print(f"{run.id}  {run.purpose:7}  {run}")
        print(f"{planned.missing} cells to run, {planned.done} done")
        return
    run_here(loaded.name, store, planned, workers, trackers)


@app.command()
def run(
    architecture: Annotated[str, typer.Option("--architecture", "-a")],
    task: Annotated[str, typer.Option("--task", "-t")],
    length: Annotated[int, typer.Option("--length", "-l", help="tokens")],
    seed: Annotated[int, typer.Option()] = 0,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="KEY=VALUE", help="training.steps=200, architecture.layers=3, ..."
        ),
    ] = None,
    into: Annotated[Path, typer.Option(help="the folder whose rows/ gets the row")] = Path(
        "results/local/runs"
    ),
    again: Annotated[bool, typer.Option("--again", help="even if there is a row")] = False,
    tracker: TrackersOption = None,
) -> None:
    """Run one cell and print its row."""
    from bench.launch import sweep as sweeping
    from bench.records.store import Store
    from bench.study import one_run

    trackers = trackers_of(tracker)
    cell = one_run(architecture, task, length, seed, settings or [])
    check_runs(None, [cell])
    store = Store(into)
    if again:
        store.set_aside({cell.id})
    trains = cell.purpose == "train"
    if cell.id not in store.ids():
        planned = sweeping.Plan((cell,) if trains else (), () if trains else (cell,), 0)
        run_here(into.name, store, planned, 1, trackers)
    _show(store, cell)


@app.command()
def table(
    study: StudyArgument,
    format_: Annotated[TableFormat, typer.Option("--format", "-f")] = TableFormat.md,
    across: AcrossOption = False,
) -> None:
    """Print the results, failures and missing cells included."""
    from bench.records.expected import complete
    from bench.records.table import render

    loaded, store = open_study(study)
    sys.stdout.buffer.write(render(complete(loaded, store), format_.value, across=across))


@app.command()
def leaderboard(
    study: StudyArgument,
    check: Annotated[
        bool, typer.Option("--check", help="write nothing; exit 1 if it is stale")
    ] = False,
    format_: Annotated[
        list[BoardFormat] | None,
        typer.Option("--format", "-f", help="may be given several times; default: md and csv"),
    ] = None,
    across: AcrossOption = False,
) -> None:
    """Write LEADERBOARD.md, leaderboard.csv and leaderboard_overall.csv beside the study."""
    from bench.report import leaderboard as board

    loaded, store = open_study(study)
    formats: list[board.Format] = [one.value for one in format_ or []]
    if check:
        stale = board.check(loaded, store, formats, across=across)
        for path in stale:
            print(f"stale: {path}")
        raise typer.Exit(1 if stale else 0)
    for path in board.write(loaded, store, formats or board.USUAL, across=across):
        print(path)


@app.command()
def report(
    studies: Annotated[
        list[Path],
        typer.Argument(metavar="STUDY...", help="a folder with a study.yaml; several side by side"),
    ],
    out: Annotated[Path | None, typer.Option(help="default: report.html in the study")] = None,
    images: Annotated[
        bool, typer.Option("--images", help="also write charts/*.svg, *.png")
    ] = False,
    across: AcrossOption = False,
) -> None:
    """Write the page: one HTML file that opens from disk, without network."""
    from bench.records import files
    from bench.report import images as pictures
    from bench.report import page
    from bench.report.side_by_side import joined

    together = joined([open_study(study) for study in studies])
    path, charts = together.default_paths()
    files.write_atomically(out or path, page.render_joined(together, across=across).encode())
    print(out or path)
    if images:
        for written in pictures.write(together, charts):
            print(written)


@app.command()
def pack(study: StudyArgument) -> None:
    """Turn rows/*.json into one rows.parquet."""
    loaded, store = open_study(study)
    print(f"{store.pack()} rows packed into {loaded.folder / 'rows.parquet'}")


@app.command()
def prune(study: StudyArgument) -> None:
    """Move rows that the study does not describe to rows.other/."""
    from bench.records.expected import foreign

    loaded, store = open_study(study)
    print(f"{store.set_aside(foreign(loaded, store))} rows moved to {loaded.folder / 'rows.other'}")


def main() -> None:
    """Entry point of `bench`: errors of use are one line and exit code 2.

    A reader that stops reading, as `head` does, ends it without a word.
    """
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed from the start: nobody reads it
            setattr(sys, name, Path(os.devnull).open("w"))  # noqa: SIM115 (for good)
    output = sys.stdout
    for stream in (output, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a terminal that knows ASCII alone
    try:
        try:
            app()
        finally:
            if sys.stdout is not output:  # what typer does to one that it could not write to
                raise BrokenPipeError
            output.flush()  # or what is left would fail at the end, where nothing can catch it
    except BrokenPipeError:
        nothing = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nothing, output.fileno())  # takes what is left in the buffer
        sys.exit(READER_GONE)
    except UserError as error:
        print(f"bench: {error}", file=sys.stderr)
        sys.exit(2)
    except OSError as error:
        print(f"bench: {error}", file=sys.stderr)
        sys.exit(1)


def _show(store: Store, cell: Run) -> None:
    """Print the row of a cell; exit 1 if it did not end well."""
    row = next(store.rows({cell.id}), None)
    if row is None:
        raise UserError(f"{cell} has no row: another process is at it, or it was asked to leave")
    print(f"{cell}: {row.status}{f' ({row.reason})' if row.reason else ''}")
    for name, value in row.metrics.items():
        print(f"  {name} {value:.6g}" if isinstance(value, float) else f"  {name} {value}")
    print(f"  kernel {row.kernel}\n  row {store.folder / 'rows' / cell.id}.json")
    if row.log_tail:
        print(row.log_tail)
    if row.status != "ok":
        raise typer.Exit(1)


if __name__ == "__main__":
    main()
