"""What a page says in words: claims and their verdicts, the reproduction card, published numbers.

Claims of a study's own, in its folder, are all shown. Of those that textbooks make a study shows
those for which it has runs on every side of every comparison, with an effect or yet to come to an
end: the others are not about it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from bench.report import claims, published, reproduction
from bench.report.claim_file import SHIPPED, own_or_shipped, read
from bench.report.document import Part, Table
from bench.report.side_by_side import Joined


@dataclass(frozen=True)
class Told:
    """A claim as the page shows it."""

    verdict: claims.Verdict
    says: str
    source: str
    table: Table
    remedies: str  # what would decide it, for a terminal and a study.yaml


@dataclass(frozen=True)
class Verdicts:
    """The claims of one study."""

    study: str  # empty if it is the only one
    tally: str
    told: list[Told]


def verdicts(studies: Joined) -> Iterator[Verdicts]:
    """The claims of each study that has some.

    Raises:
        UserError: a file of claims says what no claim can be.
    """
    for part in studies.parts:
        path = own_or_shipped(part.study.folder)
        if not path.exists():  # installed without `results`
            continue
        frame = part.own_frame()
        # By its name: what a page says does not depend on where the study lies.
        study = replace(part.study, folder=Path(part.study.name))
        found = claims.judge(read(path, frame), study, frame)
        if path == SHIPPED:
            found = [one for one in found if one.asked]
        if found:
            yield Verdicts(part.name, claims.tally(found).strip(), list(map(_told, found)))


def _told(one: claims.Judged) -> Told:
    return Told(
        verdict=one.verdict,
        says=one.claim.says,
        source=one.claim.source or "",
        table=claims.table_of(one),
        remedies="\n".join(claims.remedies_of(one)),
    )


def reproductions(studies: Joined) -> Iterator[tuple[str, list[Part]]]:
    """The name, empty if it is the only one, and the card of each study that reproduces something.

    Raises:
        UserError: what a study says that it reproduces is not there.
    """
    for part in studies.parts:
        if part.study.reproduces is not None:
            found = reproduction.cards(part.study, part.own_frame(), published.read())
            yield part.name, reproduction.parts(part.study, found)


def reported(studies: Joined) -> Table | None:
    """The published numbers beside the cells of the studies, each once; None without any."""
    found = (published.beside(part.study) for part in studies.parts)
    tables = [published.table_of(numbers) for numbers in found if numbers]
    lines = dict.fromkeys(tuple(line) for table in tables for line in table.lines)
    return replace(tables[0], lines=list(lines)) if tables else None
