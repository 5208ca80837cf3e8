"""`bench retry`: cells that ended badly, or that were lost, once more; with more of something."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bench.commands.shared import (
    StudyArgument,
    TrackersOption,
    bytes_of,
    check_runs,
    open_study,
    run_here,
    trackers_of,
)
from bench.errors import UserError, unknown

if TYPE_CHECKING:
    from pathlib import Path

    from bench.records.store import Store
    from bench.spec import Run
    from bench.study import Study

DEFAULT_ONLY = "failed,oom,timeout,diverged,preempted,lost"
UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 24 * 3600}


def retry(
    study: StudyArgument,
    only: Annotated[
        str, typer.Option(help="statuses to run again, separated by commas; `lost` is one too")
    ] = DEFAULT_ONLY,
    changes: Annotated[
        list[str] | None,
        typer.Option(
            "--with",
            metavar="KEY=VALUE",
            help="memory=8GiB or time=2h, for these cells: resources.memory_bytes and timeout_s",
        ),
    ] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="cells that train at once")] = None,
    slurm: Annotated[
        str | None,
        typer.Option(metavar="PROFILE", help="submit them: slurm/PROFILE.yaml, or a file"),
    ] = None,
    tracker: TrackersOption = None,
) -> None:
    """Run cells that ended badly again, and no others; their rows move to rows.other/."""
    from bench.launch.status import overview

    wanted, more = states_of(only), resources_of(changes or [])
    if slurm is not None and workers is not None:
        raise UserError("--workers is for this machine; a profile's throttle is for Slurm")
    trackers = trackers_of(tracker, slurm)
    loaded, store = open_study(study)
    store.statuses()  # a row that cannot be read is an error here, and not a cell to run again
    cells = [cell for cell in overview(loaded, store).cells if cell.state in wanted]
    runs = [with_resources(cell.run, more) for cell in cells]
    check_runs(study, runs)
    if slurm is None:
        _set_aside(store, runs)
        _run_here(loaded, store, runs, workers, trackers)
    else:
        _submit(study, loaded, store, runs, slurm, trackers)


def _set_aside(store: Store, runs: list[Run]) -> None:
    moved = store.set_aside({run.id for run in runs})
    print(f"{moved} rows moved to {store.aside_folder}", flush=True)


def _run_here(
    loaded: Study,
    store: Store,
    runs: list[Run],
    workers: int | None,
    trackers: tuple[str, ...],
) -> None:
    from bench.launch.sweep import Plan

    train = tuple(run for run in runs if run.purpose == "train")
    measure = tuple(run for run in runs if run.purpose == "measure")
    planned = Plan(train, measure, len(loaded.runs) - len(runs))
    run_here(loaded.name, store, planned, workers, trackers)


def _submit(
    study: Path,
    loaded: Study,
    store: Store,
    runs: list[Run],
    profile: str,
    trackers: tuple[str, ...],
) -> None:
    """Submit the runs; if the cluster refuses, their rows are back where they were."""
    from bench.commands.submit import submit_runs
    from bench.launch.slurm.submission import on_the_way

    # A job does each of its cells once: one that is not at its end yet would not do them again.
    busy = on_the_way(store.folder, {run.id for run in runs}).tasks
    if busy:
        print(
            f"{len(busy)} cells are of jobs that still work on others: retry when those have ended"
        )
    runs = [run for run in runs if run.id not in busy]
    if not runs:
        print("0 cells to submit")
        return
    rows = list(store.rows({run.id for run in runs}))
    _set_aside(store, runs)
    try:
        submit_runs(study, loaded, store, runs, profile, dry_run=False, trackers=trackers)
    except UserError:
        for row in rows:
            store.write(row)
        raise


def states_of(only: str) -> set[str]:
    """The states of cells that `--only` names.

    Raises:
        UserError: there is no such status.
    """
    from bench.records.row import STATUSES

    asked = {part.strip() for part in only.split(",")}
    for name in sorted(asked - {*STATUSES, "lost"}):
        raise unknown("status", name, [*STATUSES, "lost"])
    return {"done" if name == "ok" else name for name in asked}


def resources_of(changes: Sequence[str]) -> dict[str, Any]:
    """The keys of `resources` that `--with` changes; none of them is part of a run's id.

    Raises:
        UserError: another key, or a value that is no size or no time.
    """
    found: dict[str, Any] = {}
    for change in changes:
        key, equals, value = change.partition("=")
        if not equals:
            raise UserError(f"--with takes KEY=VALUE, such as memory=8GiB, not {change!r}")
        if key == "memory":
            found["memory_bytes"] = bytes_of(value, "--with memory=")
        elif key == "time":
            found["timeout_s"] = _seconds(value)
        else:
            raise UserError(f"--with: {unknown('key', key, ['memory', 'time'])}")
    return found


def with_resources(run: Run, changes: dict[str, Any]) -> Run:
    """The same run, with the same id and other limits."""
    return run.model_copy(update={"resources": run.resources.model_copy(update=changes)})


def _seconds(text: str) -> float:
    parts = re.findall(r"(\d{1,9}(?:\.\d+)?)([smhd])", text)
    total = sum(float(number) * UNITS_S[unit] for number, unit in parts)
    if "".join(number + unit for number, unit in parts) != text or total <= 0:
        raise UserError(f"--with time= takes a time such as 2h, 90m or 1h30m, not {text!r}")
    return total
