"""`bench claims`: statements held against the rows of a study."""

from __future__ import annotations

import enum
from pathlib import Path
from typing import Annotated

import typer

from bench.commands.shared import StudyArgument, open_study


class ClaimsFormat(enum.StrEnum):
    """How verdicts are written."""

    text = "text"
    md = "md"
    json = "json"


def claims(
    study: StudyArgument,
    file: Annotated[
        Path | None,
        typer.Option(help="default: claims.yaml of the study, or else what textbooks say"),
    ] = None,
    format_: Annotated[ClaimsFormat, typer.Option("--format", "-f")] = ClaimsFormat.text,
) -> None:
    """Print what the rows of a study say to each claim: supported, refuted or undecided."""
    from bench.records.expected import complete
    from bench.report import claims as report
    from bench.report.claim_file import own_or_shipped, read

    loaded, store = open_study(study)
    frame = complete(loaded, store)
    claims_of = read(file or own_or_shipped(loaded.folder), frame)
    judged = report.judge(claims_of, loaded, frame)
    write = {
        ClaimsFormat.text: report.as_text,
        ClaimsFormat.md: report.as_markdown,
        ClaimsFormat.json: report.as_json,
    }
    print(write[format_](judged), end="")
