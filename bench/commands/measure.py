"""`bench measure`: instruments without training, and the table of what they found.

The rows are kept in a folder with a `study.yaml` that names them, so that the same command goes on
where it stopped, and every other command (`table`, `report`, ...) reads them as any study.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bench.commands.shared import bytes_of
from bench.errors import UserError, unknown

if TYPE_CHECKING:
    from bench.spec import Run
    from bench.study import Study

HEADER = "# Written by `bench measure`, which adds to it; each line of include is a run."
DEFAULT_FOLDER = Path("results/local/measure")
LONGEST_LENGTH = "longest_length"  # the instrument that --memory is for
DEFAULT_TASK = "parity"  # any architecture, at any length, with next to no embedding and head


def measure(
    architecture: Annotated[
        list[str], typer.Option("--architecture", "-a", help="may be given several times")
    ],
    lengths: Annotated[str, typer.Option("--lengths", "-l", help="tokens: 256,512,1024")],
    task: Annotated[str, typer.Option("--task", "-t")] = DEFAULT_TASK,
    instruments: Annotated[
        str, typer.Option("--instruments", "-i", help="separated by commas")
    ] = "throughput,memory",
    tokens_per_batch: Annotated[
        int | None, typer.Option(min=1, help="the batch shrinks as sequences grow")
    ] = None,
    batch_size: Annotated[int | None, typer.Option(min=1, help="the same at every length")] = None,
    memory: Annotated[
        str | None,
        typer.Option(
            "--memory",
            metavar="SIZE",
            help="such as 8GiB: find the longest length that fits (measure.memory_limit_bytes)",
        ),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="params=200000, resources.threads=2, ..."),
    ] = None,
    folder: Annotated[
        Path, typer.Option("--folder", help="the folder that gets the rows")
    ] = DEFAULT_FOLDER,
    workers: Annotated[
        int | None, typer.Option(min=1, help="cells at once, of instruments that time nothing")
    ] = None,
    across: Annotated[
        bool, typer.Option("--across", help="compare machines and precisions, with a warning")
    ] = False,
) -> None:
    """Measure architectures against length, without training, and print the table."""
    from bench.catalogue import check
    from bench.errors import UserError
    from bench.launch import sweep as sweeping
    from bench.launch.progress import Progress
    from bench.records.expected import with_missing
    from bench.records.provenance import cores
    from bench.records.store import Store
    from bench.records.table import render
    from bench.study import Study

    searches, limit = limit_of(memory)
    runs = runs_of(
        architecture,
        task,
        lengths_of(lengths),
        [*instruments_of(instruments), *searches],
        [*batch_of(tokens_per_batch, batch_size), *limit],
        settings or [],
    )
    earlier = _earlier(folder)
    check(runs)
    study = Study(folder.name, folder, "Measured by hand", "", tuple(runs))
    store = Store(folder)
    planned = sweeping.plan(study, store)
    n_workers = workers or cores()
    if planned.missing:
        sweeping.make_writable(folder)
        _write(folder, earlier, runs)
        calibrate_if_needed(runs)
    with Progress(planned.missing, planned.done, n_workers) as progress:
        try:
            sweeping.sweep(study.name, store, planned, n_workers, progress)
        except KeyboardInterrupt:
            progress.interrupted()
            raise typer.Exit(130) from None
    frame = store.frame()
    asked = frame[frame["id"].isin([run.id for run in runs])]
    try:
        text = render(with_missing(asked, study), "md", across=across)
    except UserError as error:
        raise UserError(f"measured and kept in {folder}; {error}") from None
    sys.stdout.buffer.write(text)


def lengths_of(text: str) -> list[int]:
    """`256,512` as numbers.

    Raises:
        UserError: they are no increasing positive integers.
    """
    try:
        lengths = [int(part) for part in text.split(",")]
    except ValueError:
        lengths = []
    increasing = all(first < second for first, second in pairwise(lengths))
    if not lengths or lengths[0] < 1 or not increasing:
        raise UserError(
            f"--lengths takes increasing positive integers such as 256,512,1024, not {text!r}"
        )
    return lengths


def instruments_of(text: str) -> list[str]:
    """`throughput,memory` as names.

    Raises:
        UserError: there is no such instrument.
    """
    from bench.measure.instruments import names

    asked = [part.strip() for part in text.split(",")]
    for name in asked:
        if name not in names():
            raise unknown("instrument", name, names())
    return asked


def batch_of(tokens_per_batch: int | None, batch_size: int | None) -> list[str]:
    """The setting that says how large a batch is.

    Raises:
        UserError: both are given.
    """
    if tokens_per_batch is not None and batch_size is not None:
        raise UserError("give --tokens-per-batch or --batch-size, not both")
    if tokens_per_batch is not None:
        return [f"training.tokens_per_batch={tokens_per_batch}"]
    return [] if batch_size is None else [f"training.batch_size={batch_size}"]


def limit_of(memory: str | None) -> tuple[list[str], list[str]]:
    """The instrument that searches under a limit of memory, and the setting that says the limit.

    Raises:
        UserError: it is no size.
    """
    if memory is None:
        return [], []
    return [LONGEST_LENGTH], [f"measure.memory_limit_bytes={bytes_of(memory, '--memory')}"]


def runs_of(
    architectures: Sequence[str],
    task: str,
    lengths: Sequence[int],
    instruments: Sequence[str],
    options: Sequence[str],
    settings: Sequence[str],
) -> list[Run]:
    """A measuring run for every architecture and length; where both say a key, `options` win.

    Raises:
        UserError: a setting that no measuring run can have, or a batch too small for a length.
    """
    from bench.study import one_run

    fixed = ["training.steps=0", f"measure.instruments={json.dumps(list(instruments))}"]
    given = [*settings, *options, *fixed]
    return [
        one_run(name, task, length, 0, given)
        for name in dict.fromkeys(architectures)
        for length in lengths
    ]


def calibrate_if_needed(runs: Sequence[Run]) -> None:
    """Measure what this machine can do, unless that is known or no run times anything."""
    from bench.measure.instruments import THROUGHPUT

    timed = [run for run in runs if THROUGHPUT in run.measure.instruments]
    if not timed:
        return
    from bench.launch import machine
    from bench.measure import calibrate
    from bench.training.execute import device_of

    for threads in sorted({run.resources.threads for run in timed}):
        device = device_of(timed[0])
        if calibrate.remembered(device, threads) is None:
            print("calibrating this machine, once: a few seconds", flush=True)
            with machine.alone(print):
                calibrate.calibrate(device, threads)


def _earlier(folder: Path) -> Study | None:
    """The study that earlier calls left in the folder.

    Raises:
        UserError: the folder has a study that somebody wrote.
    """
    from bench.study import STUDY_FILE, load

    file = folder / STUDY_FILE
    if not file.exists():
        return None
    if not file.read_text(encoding="utf-8").startswith(HEADER):
        raise UserError(f"{file} was not written by `bench measure`; name another --folder")
    return load(folder)


def _write(folder: Path, earlier: Study | None, runs: Sequence[Run]) -> None:
    """Write the study that asks for these runs and those of earlier calls."""
    from bench.records.files import write_atomically
    from bench.study import STUDY_FILE

    known = {run.id: run for run in (*(earlier.runs if earlier else ()), *runs)}
    lines = [
        f"  - {json.dumps(run.model_dump(mode='json', exclude_defaults=True))}"
        for run in known.values()
    ]
    text = "\n".join([HEADER, "title: Measured by hand", "include:", *lines, ""])
    write_atomically(folder / STUDY_FILE, text.encode())
