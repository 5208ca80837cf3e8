"""How far back gradients reach, as a table: decay, verdict and clipping, before and after training.

From the tidy table of runs that measured `gradient_reach`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import pandas as pd

from bench.records.markdown import between, count, finite, number
from bench.report.document import Heading, Items, Paragraph, Table
from bench.report.document import as_markdown as written
from bench.spec import Run

INSTRUMENT = "gradient_reach"
RIGHT = frozenset((2, 4, 5, 6, 8, 9, 10, 11))  # columns of numbers
STAGES = (("init", "at initialisation"), ("trained", "after training"))
KINDS = (("input", "dL_t/dx_(t-k)"), ("state", "dL_t/dh_(t-k)"))
COLUMNS = (
    *("task", "length", "architecture", "seed", "id", "kind", "stage", "verdict"),
    *("decay_tokens", "decay_tokens_low", "decay_tokens_high", "decay_missing"),
    *("effective_tokens", "limit_tokens", "jacobian_max", "clipped_share"),
    *("training", "remark"),
)
LEGEND = (
    Paragraph(
        "tokens after which the norm has fallen to 1/e, fitted, with its 95% interval.", "Decay"
    ),
    Paragraph(
        "the largest distance with more than a hundredth of the norm at distance 1; ≥ where that "
        "is the largest distance that was looked at.",
        "Reaches",
    ),
    Paragraph(
        "largest singular value of the step from state to state along the sequence.", "Jacobian"
    ),
    Paragraph(
        "share of the training steps whose gradient was cut to the largest norm allowed.", "Clipped"
    ),
)


@dataclass(frozen=True)
class ReachTable:
    """What was measured of one kind of gradient, in the cells of one task and length."""

    title: str
    table: Table


def told_apart(runs: Iterable[Run]) -> dict[str, str]:
    """By id, what a run's training has that not all the others' have: `tbptt_window=32`.

    Of the runs that measure this: what others train with tells none of these apart.
    """
    trainings = {
        run.id: run.training.model_dump(mode="json")
        for run in runs
        if INSTRUMENT in run.measure.instruments
    }
    varied = [
        key
        for key in dict.fromkeys(key for training in trainings.values() for key in training)
        if len({str(training[key]) for training in trainings.values()}) > 1
    ]
    return {
        run_id: ", ".join(f"{key}={_value(training[key])}" for key in varied)
        for run_id, training in trainings.items()
    }


def reaches(frame: pd.DataFrame, trainings: Mapping[str, str]) -> pd.DataFrame:
    """One line per run, kind of gradient and stage; columns as in `COLUMNS`.

    `trainings` says by id how a run's training differs.
    """
    lines = []
    verdicts = [f"reach_{kind}_{stage}_verdict" for kind, _ in KINDS for stage, _ in STAGES]
    known = frame[[name for name in verdicts if name in frame]]
    for _, run in frame[known.notna().any(axis=1)].iterrows():
        for kind, _ in KINDS:
            for stage, _ in STAGES:
                prefix = f"reach_{kind}_{stage}"
                if not isinstance(run.get(f"{prefix}_verdict"), str):
                    continue
                lines.append(
                    {
                        **{key: run.get(key) for key in COLUMNS[:5]},
                        "kind": kind,
                        "stage": stage,
                        **{key: run.get(f"{prefix}_{key}") for key in COLUMNS[7:13]},
                        "limit_tokens": run.get(f"reach_{kind}_limit_tokens"),
                        "jacobian_max": run.get(f"jacobian_{stage}_max"),
                        "clipped_share": run.get("clipped_share") if stage == "trained" else None,
                        "training": trainings.get(run["id"], ""),
                        "remark": run.get("jacobian_missing"),
                    }
                )
    return pd.DataFrame.from_records(lines, columns=list(COLUMNS))


def as_csv(frame: pd.DataFrame, trainings: Mapping[str, str]) -> str:
    """The same as CSV."""
    return reaches(frame, trainings).to_csv(index=False, lineterminator="\n")


def as_markdown(frame: pd.DataFrame, trainings: Mapping[str, str]) -> str:
    """A table for each task, length and kind of gradient."""
    found = tables(frame, trainings)
    if not found:
        return "no gradient was measured\n"
    parts = [part for one in found for part in (Heading(3, one.title), one.table)]
    return written([*parts, Items(LEGEND)])


def tables(frame: pd.DataFrame, trainings: Mapping[str, str]) -> list[ReachTable]:
    """The tables; none where nothing was measured."""
    found = reaches(frame, trainings)
    made = []
    for (task, length, kind), part in found.groupby(["task", "length", "kind"], sort=False):
        headings = ["architecture", "training", "seed"]
        for _, stage in STAGES:
            headings += [stage, "decay, tokens", "reaches", "Jacobian"]
        headings += ["clipped", "remark"]
        has_seeds = part["seed"].nunique() > 1
        lines = [_line(of_one, has_seeds) for _, of_one in part.groupby("id", sort=False)]
        title = f"{task}, length {length:,}: norm of {dict(KINDS)[str(kind)]} against k"
        made.append(ReachTable(title, Table(headings, lines, RIGHT)))
    return made


def _line(of_one: pd.DataFrame, has_seeds: bool) -> list[str]:
    by_stage = of_one.set_index("stage")
    first = of_one.iloc[0]
    seed = count(first["seed"]) if has_seeds else ""
    cells = [first["architecture"], first["training"], seed]
    for stage, _ in STAGES:
        if stage not in by_stage.index:
            cells += [""] * 4
            continue
        one = by_stage.loc[stage]
        ends = (number(one["decay_tokens_low"], 3), number(one["decay_tokens_high"], 3))
        bound = "≥ " if finite(one["effective_tokens"]) == finite(one["limit_tokens"]) else ""
        cells += [
            str(one["verdict"]),
            between(number(one["decay_tokens"], 3), *ends),
            f"{bound}{count(one['effective_tokens'])}",
            number(one["jacobian_max"], 3),
        ]
    clipped = of_one["clipped_share"].dropna()
    remark = first["remark"] if isinstance(first["remark"], str) else ""
    return [*cells, f"{clipped.iloc[0]:.0%}" if len(clipped) else "", remark]


def _value(value: object) -> str:
    return "none" if value is None else str(value)
