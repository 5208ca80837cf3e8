"""Rows against the study that asks for them: which are missing, and which it does not describe."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from bench.errors import UserError
from bench.labels import check_labels
from bench.records.store import Store
from bench.records.tidy import normalise, run_values
from bench.spec import Run, parse_run
from bench.study import Study

MISSING = "missing"  # the status of a run that has no row
NO_OUTCOME = (MISSING, "preempted")
"""Statuses of runs that have not come to an end."""
N_SHOWN_DIFFERENCES = 3


def complete(study: Study, store: Store) -> pd.DataFrame:
    """The tidy table of a study: one line per run, in the study's order, missing ones too.

    Raises:
        UserError: a row is of no run of the study, or one label names two architectures.
    """
    runs = {run.id: run for run in study.runs}
    frame = store.frame()
    places = _places(frame, runs)
    if (places < 0).any():
        foreign = sorted(frame["id"][places < 0].tolist())
        raise _foreign(foreign, runs, study, store)
    if len(places) < len(runs):
        return with_missing(frame, study)
    return _in_order(frame, list(runs.values()), places)


def with_missing(frame: pd.DataFrame, study: Study) -> pd.DataFrame:
    """`frame` with a line of status `missing` for every run of the study that it does not have.

    Labels are the study's: a row keeps those it was run under, and they are not part of its id.
    """
    by_id = {run.id: run for run in study.runs}
    runs = list(by_id.values())
    places = _places(frame, by_id)
    absent = np.setdiff1d(np.arange(len(runs)), places)
    lines = [
        {"id": run.id, "status": MISSING, **run_values(run)} for run in (runs[i] for i in absent)
    ]
    if lines:
        both = [part.astype(object) for part in (frame, pd.DataFrame.from_records(lines))]
        frame = pd.concat(both) if len(frame) else both[1]
        places = np.concatenate([places, absent])
    return normalise(_in_order(frame, runs, places))


def _places(frame: pd.DataFrame, runs: Mapping[str, Run]) -> npt.NDArray[np.intp]:
    """Which of the runs each line is of, by number; -1: none."""
    return pd.Index(list(runs), dtype=object).get_indexer(
        pd.Index(frame["id"].tolist(), dtype=object)
    )


def _in_order(
    frame: pd.DataFrame, runs: Sequence[Run], places: npt.NDArray[np.intp]
) -> pd.DataFrame:
    """The lines in the order of their runs, under the labels that the study has for them."""
    order = np.argsort(places, kind="stable")
    labels = zip(("architecture", "task"), check_labels(runs), strict=True)
    columns = {
        name: pd.array(np.array(of_runs, dtype=object)[places[order]], dtype="str")
        for name, of_runs in labels
    }
    return frame.iloc[order].reset_index(drop=True).assign(**columns)


def foreign(study: Study, store: Store) -> set[str]:
    """The ids of rows that no run of the study has."""
    return store.ids() - {run.id for run in study.runs}


def _foreign(ids: list[str], runs: Mapping[str, Run], study: Study, store: Store) -> UserError:
    n = len(ids)
    count = "1 row" if n == 1 else f"{n} rows"
    what = f"{store.folder}: {count} of no run of the study, the first {ids[0]}"
    row = next(store.rows([ids[0]]))
    given = dict(_flat(_identity(parse_run(row.run, f"row {row.id}: run"))))
    nearest, differences = "", [""] * (len(given) + 1)
    for run in runs.values():
        wanted = dict(_flat(_identity(run)))
        changed = [
            f"{key}: {_value(given.get(key))} in the row, {_value(wanted.get(key))} in the study"
            for key in sorted(given.keys() | wanted.keys())
            if given.get(key) != wanted.get(key)
        ]
        if len(changed) < len(differences) or not nearest:
            nearest, differences = str(run), changed
    shown = "; ".join(differences[:N_SHOWN_DIFFERENCES])
    if (more := len(differences) - N_SHOWN_DIFFERENCES) > 0:
        shown += f"; and {more} more"
    shown = shown or "same settings, but another version of seqbench made that id"
    return UserError(
        f"{what}; nearest is {nearest}: {shown}; "
        f"mend the study, or `bench prune {study.folder}` moves them aside"
    )


def _identity(run: Run) -> dict[str, Any]:
    return run.model_dump(mode="json", exclude={"architecture": {"label"}, "task": {"label"}})


def _flat(data: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, object]]:
    for key, value in data.items():
        if isinstance(value, Mapping):
            yield from _flat(value, prefix if key == "options" else f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _value(value: object) -> str:
    return "nothing" if value is None else str(value)
