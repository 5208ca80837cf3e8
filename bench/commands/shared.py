"""What the commands that run cells have in common."""

from __future__ import annotations

import enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bench.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterable

    import pandas as pd

    from bench.launch.sweep import Plan
    from bench.records.store import Store
    from bench.spec import Run
    from bench.study import Study

StudyArgument = Annotated[Path, typer.Argument(metavar="STUDY", help="a folder with a study.yaml")]


class TextFormat(enum.StrEnum):
    """How a table is printed."""

    md = "md"
    csv = "csv"


TextFormatOption = Annotated[TextFormat, typer.Option("--format", "-f")]


TrackersOption = Annotated[
    list[str] | None,
    typer.Option(
        "--tracker",
        metavar="NAME",
        help="follow training in wandb or tensorboard; may be given several times; "
        "default: $SEQBENCH_TRACKERS",
    ),
]


def trackers_of(asked: list[str] | None, profile: str | None = None) -> tuple[str, ...]:
    """The trackers that are to follow runs here, or on the nodes of a profile.

    Raises:
        UserError: an unknown name, or a package that is missing: nothing is to be started then.
    """
    from bench.trackers import choice

    names = choice.chosen(asked or [])
    if names and not (profile is not None and _has_own_python(profile)):
        choice.check(names)
    return names


def _has_own_python(profile: str) -> bool:
    """Whether nodes have other packages than this process."""
    from bench.launch.slurm import profile as profiles

    read = profiles.load(profile)
    return bool(read.python or read.container)


def open_study(folder: Path) -> tuple[Study, Store]:
    """A study and its rows."""
    from bench.records.store import Store
    from bench.study import load

    study = load(folder)
    return study, Store(study.folder)


def frame_of(folder: Path) -> pd.DataFrame:
    """The tidy table of a study, missing runs too."""
    from bench.records.expected import complete

    return complete(*open_study(folder))


def check_runs(study: Path | None, runs: Iterable[Run]) -> None:
    """Refuse runs that could not be built, naming the study that asks for them."""
    from bench.catalogue import check

    try:
        check(list(runs), study)
    except UserError as error:
        raise UserError(str(error) if study is None else f"{study}: {error}") from None


def run_here(
    name: str, store: Store, planned: Plan, workers: int | None, trackers: tuple[str, ...]
) -> None:
    """Run what is planned on this machine, and show how it goes."""
    from bench.launch import sweep as sweeping
    from bench.launch.progress import Progress
    from bench.launch.stopping import Stopped
    from bench.records.provenance import cores

    if planned.missing:
        sweeping.make_writable(store.folder)
    n_workers = workers or cores()
    with Progress(planned.missing, planned.done, n_workers) as progress:
        try:
            sweeping.sweep(name, store, planned, n_workers, progress, trackers)
        except (KeyboardInterrupt, Stopped) as signalled:
            progress.interrupted()
            code = signalled.exit_code if isinstance(signalled, Stopped) else 130
            raise typer.Exit(code) from None


def bytes_of(text: str, option: str) -> int:
    """The bytes that `8GiB`, `16G` or `500M` stands for: units are powers of 1024.

    Raises:
        UserError: it is no size, or less than 1 MiB; `option` is where it was given.
    """
    from pydantic import TypeAdapter, ValidationError

    from bench.launch.slurm.profile import Memory

    try:
        size: int = TypeAdapter(Memory).validate_python(text.strip())
    except ValidationError:
        raise UserError(f"{option} takes a size such as 8GiB or 500M, not {text!r}") from None
    return size
