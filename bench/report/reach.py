"""How far back gradients reach, as a table: decay, verdict and clipping, before and after training.

From the tidy table of runs that measured `gradient_reach`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import pandas as pd

from bench.records.markdown import between, count, escape, finite, number, table
from bench.spec import Run

STAGES = (("init", "at initialisation"), ("trained", "after training"))
KINDS = (("input", "dL_t/dx_(t-k)"), ("state", "dL_t/dh_(t-k)"))
COLUMNS = (
    *("task", "length", "architecture", "seed", "id", "kind", "stage", "verdict"),
    *("decay_tokens", "decay_tokens_low", "decay_tokens_high", "decay_missing"),
    *("effective_tokens", "limit_tokens", "jacobian_max", "clipped_share"),
    *("training", "remark"),
)
LEGEND = """\
- **Decay**: tokens after which the norm has fallen to 1/e, fitted, with its 95% interval.
- **Reaches**: the largest distance with more than a hundredth of the norm at distance 1; \
≥ where that is the largest distance that was looked at.
- **Jacobian**: largest singular value of the step from state to state along the sequence.
- **Clipped**: share of the training steps whose gradient was cut to `clip_norm`.
"""


def told_apart(runs: Iterable[Run]) -> dict[str, str]:
    """By id, what a run's training has that not all the others' have: `tbptt_window=32`."""
    trainings = {run.id: run.training.model_dump(mode="json") for run in runs}
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
    for _, run in frame.iterrows():
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
    """A table for each task and kind of gradient."""
    found = reaches(frame, trainings)
    if not len(found):
        return "no gradient was measured\n"
    parts = []
    for (task, kind), part in found.groupby(["task", "kind"], sort=False):
        headings = ["architecture", "training"]
        for _, stage in STAGES:
            headings += [f"{stage}", "decay, tokens", "reaches", "Jacobian"]
        headings += ["clipped", "remark"]
        lines = [_line(of_one) for _, of_one in part.groupby("id", sort=False)]
        title = f"### {escape(str(task))}: norm of {dict(KINDS)[str(kind)]} against k"
        parts.append(f"{title}\n\n{table(headings, lines, right=(3, 4, 5, 7, 8, 9, 10))}")
    return "\n".join([*parts, LEGEND])


def _line(of_one: pd.DataFrame) -> list[str]:
    by_stage = of_one.set_index("stage")
    first = of_one.iloc[0]
    cells = [escape(first["architecture"]), escape(first["training"])]
    for stage, _ in STAGES:
        if stage not in by_stage.index:
            cells += [""] * 4
            continue
        one = by_stage.loc[stage]
        ends = (number(one["decay_tokens_low"], 3), number(one["decay_tokens_high"], 3))
        bound = "≥ " if finite(one["effective_tokens"]) == finite(one["limit_tokens"]) else ""
        cells += [
            escape(str(one["verdict"])),
            between(number(one["decay_tokens"], 3), *ends).replace("[", "\\["),
            f"{bound}{count(one['effective_tokens'])}",
            number(one["jacobian_max"], 3),
        ]
    clipped = of_one["clipped_share"].dropna()
    remark = first["remark"] if isinstance(first["remark"], str) else ""
    return [*cells, f"{clipped.iloc[0]:.0%}" if len(clipped) else "", escape(remark)]


def _value(value: object) -> str:
    return "none" if value is None else str(value)
