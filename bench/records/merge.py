"""The rows of one study from several clusters, gathered for one folder."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from bench.errors import UserError
from bench.records.row import Row
from bench.records.store import Store
from bench.records.twice import conflict


@dataclass
class Gathered:
    """The rows of all sources, and what was left where it is."""

    rows: dict[str, Row] = field(default_factory=dict)
    duplicates: list[str] = field(default_factory=list)  # ids that more than one source has
    strangers: dict[str, list[str]] = field(default_factory=dict)  # ids of no run, by folder
    problems: list[UserError] = field(default_factory=list)  # files that are no rows


def gather(sources: Sequence[Store], wanted: Collection[str]) -> Gathered:
    """The rows of the runs that are wanted; nothing is written anywhere.

    Raises:
        UserError: two rows of one id are not the same, or packed rows cannot be read.
    """
    found = Gathered()
    folder_of: dict[str, str] = {}
    for source in sources:
        rows, problems = source.readable()
        found.problems += problems
        if strangers := sorted(rows.keys() - set(wanted)):
            found.strangers[str(source.folder)] = strangers
        for row_id in sorted(rows.keys() & set(wanted)):
            known = found.rows.setdefault(row_id, rows[row_id])
            if known != rows[row_id]:
                raise conflict(known, folder_of[row_id], rows[row_id], str(source.folder))
            if row_id in folder_of:
                found.duplicates.append(row_id)
            folder_of.setdefault(row_id, str(source.folder))
    return found
