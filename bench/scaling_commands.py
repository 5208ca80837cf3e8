"""How things go with length: `bench scaling`, `bench crossover` and `bench generalisation`."""

from __future__ import annotations

import enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    import pandas as pd

app = typer.Typer()

StudyArgument = Annotated[Path, typer.Argument(metavar="STUDY", help="a folder with a study.yaml")]


class Format(enum.StrEnum):
    """How what is found is written."""

    text = "text"
    md = "md"
    csv = "csv"


class Cost(enum.StrEnum):
    """What is compared."""

    train = "train"
    infer = "infer"
    memory = "memory"


@app.command()
def scaling(
    study: StudyArgument,
    format_: Annotated[Format, typer.Option("--format", "-f")] = Format.text,
) -> None:
    """Print the exponents of time and memory in length; as md, the crossovers of all pairs too."""
    from bench.report import scaling_tables

    print(scaling_tables.scaling(frame_of(study), format_.value), end="")


@app.command()
def crossover(
    first: Annotated[str, typer.Argument(metavar="A", help="an architecture of the study")],
    second: Annotated[str, typer.Argument(metavar="B", help="another")],
    study: StudyArgument,
    quantity: Annotated[
        Cost | None, typer.Option(help="default: training and inference time, and memory")
    ] = None,
    format_: Annotated[Format, typer.Option("--format", "-f")] = Format.text,
) -> None:
    """Print the length at which the faster of two architectures changes, with its interval."""
    from bench.report import scaling_tables
    from bench.report.crossover import crossovers_of
    from bench.report.series import QUANTITIES

    frame = frame_of(study)
    asked = QUANTITIES.values() if quantity is None else [QUANTITIES[quantity.value]]
    found = [one for which in asked for one in crossovers_of(frame, first, second, which)]
    print(scaling_tables.crossover(found, format_.value), end="")


@app.command()
def generalisation(
    study: StudyArgument,
    share: Annotated[
        float,
        typer.Option(
            min=0, max=1, help="of the way from chance to its own score that still is enough"
        ),
    ] = 0.9,
    threshold: Annotated[
        float | None, typer.Option(help="a score that is enough, in place of a share")
    ] = None,
    format_: Annotated[Format, typer.Option("--format", "-f")] = Format.text,
) -> None:
    """Print the scores at lengths beyond the training length, and up to which they hold."""
    from bench.report import generalisation_tables

    frame = frame_of(study)
    print(generalisation_tables.render(frame, format_.value, share, threshold), end="")


def frame_of(folder: Path) -> pd.DataFrame:
    """The tidy table of a study, missing runs too."""
    from bench.records.expected import complete
    from bench.records.store import Store
    from bench.study import load

    study = load(folder)
    return complete(study, Store(study.folder))
