"""Rows summarised: one line per task, length and architecture, with seeds and settings decided.

Where several settings were tried, the chosen one has the best mean val score, among those whose
every seed ended well if there is one, and of these among those with the most seeds. One lucky seed
is not chosen where another setting was asked for several. What is reported is the test score at
that setting. Speed and memory come from the run that measured alone on the machine. Nothing missing
is averaged.

task, length, architecture          the cell
metric, unit, higher_is_better, chance, baseline, baseline_rule
score, score_low, score_high        mean test score over seeds; its interval, missing if one seed
n_seeds, n_wanted                   seeds that have a score, and seeds asked for
setting, learning_rate              the chosen ones
n_settings, learning_rate_low, learning_rate_high       tried: those that ended badly too, but none
                                                        of which no run has come to an end
train_tokens_per_s, infer_tokens_per_s, each with _low and _high; peak_bytes
parameters, state_bytes
kernel, precision, accelerator, hardware, world_size    of the measuring run
noise_floor, reference_ms           of the session that timed it: a ratio; the time of known work
measured_id                                             the id of the measuring run
train_kernel, train_precision                           of the training runs
problems                            what did not end well at the chosen setting: `1 oom, 2 missing`
other_problems                      at other settings
measure_problems                    when measuring
then what the other instruments found in the measuring run: `bench.records.shown`
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from bench.records import shown
from bench.records.bootstrap import interval
from bench.records.expected import NO_OUTCOME
from bench.records.tidy import SPEEDS

CELL = ["task", "length", "architecture"]
OF_TASK = ["metric", "unit", "higher_is_better"]
MEANING = [*OF_TASK, "chance", "baseline", "baseline_rule"]  # the latter may depend on the length
MEASURED = [
    *(f"{speed}{end}" for speed in SPEEDS for end in ("", "_low", "_high")),
    "peak_bytes",
    "noise_floor",
    "reference_ms",
]
HOST = ["kernel", "precision", "accelerator", "hardware", "world_size", "tokens_per_batch"]
OF_TRAINING = [  # all that is read of runs that trained: to copy the others takes long
    *(*CELL, "id", "status", "seed", "setting", "learning_rate", "unit", "higher_is_better"),
    *("test_score", "val_score", "parameters", "state_bytes", "kernel", "precision"),
]
SHOWN_INSTRUMENTS = ("throughput", "memory")
NO_SCORE = "without score"
PASSED_OVER = "not shown"  # a further measurement of a cell, at another setting
COLUMNS = [
    *CELL,
    *MEANING,
    *("score", "score_low", "score_high", "n_seeds", "n_wanted"),
    *("setting", "learning_rate", "n_settings", "learning_rate_low", "learning_rate_high"),
    *MEASURED,
    *("parameters", "state_bytes"),
    *HOST,
    *("measured_id", "train_kernel", "train_precision"),
    *("problems", "other_problems", "measure_problems"),
    *shown.COLUMNS,
]
Frame = pd.DataFrame


def lines_of(cells: Frame) -> list[dict[str, Any]]:
    """The lines of a summary as mappings. Column by column: `to_dict` takes ten times as long."""
    columns = {str(name): cells[name].tolist() for name in cells.columns}
    return [dict(zip(columns, line, strict=True)) for line in zip(*columns.values(), strict=True)]


def summarise(frame: Frame) -> Frame:
    """One line per cell, in the order of the frame's tasks and architectures, lengths ascending."""
    tasks, architectures = (frame[name].unique().tolist() for name in ("task", "architecture"))
    frame = frame.assign(
        task=pd.Categorical(frame["task"], tasks),
        architecture=pd.Categorical(frame["architecture"], architectures),
    )
    cells = frame[CELL].drop_duplicates().set_index(CELL).sort_index()
    trained = frame[OF_TRAINING][frame["purpose"] == "train"]
    parts = [_meaning(frame), _scores(trained), _speeds(frame)]
    for part in parts:
        cells = cells.join(part)
    for name in ("parameters", "state_bytes"):
        cells[name] = cells[name].fillna(cells.pop(f"measured_{name}"))
    counts = ["n_seeds", "n_wanted", "n_settings"]
    cells[counts] = cells[counts].fillna(0).astype("int64")
    problems = ["problems", "other_problems", "measure_problems"]
    cells[problems] = cells[problems].fillna("")
    return cells.reset_index()[COLUMNS].assign(
        task=lambda cells: cells["task"].astype("str"),
        architecture=lambda cells: cells["architecture"].astype("str"),
    )


def problems_of(cell: dict[str, Any]) -> str:
    """All that did not end well in a cell, as one text."""
    places = {
        "problems": "",
        "other_problems": " at other settings",
        "measure_problems": " in measuring",
    }
    return "; ".join(f"{cell[name]}{place}" for name, place in places.items() if cell[name])


def _meaning(frame: Frame) -> Frame:
    """What the score means, from whichever row of the cell or else of the task can say it."""
    names = [name for name in MEANING if name in frame]
    by_cell = frame.groupby(CELL, observed=True)[names].first()
    by_length = frame.groupby(CELL[:2], observed=True)[names].first()
    by_task = frame.groupby("task", observed=True)[OF_TASK].first()
    found = by_cell.join(by_length.add_suffix("_of_length")).join(by_task.add_suffix("_of_task"))
    for name in names:
        found[name] = found[name].fillna(found[f"{name}_of_length"])
        if name in OF_TASK:
            found[name] = found[name].fillna(found[f"{name}_of_task"])
    return found.reindex(columns=MEANING)


def _scores(trained: Frame) -> Frame:
    """The chosen setting of every cell and what came out at it."""
    scored = (trained["status"] == "ok") & trained["test_score"].notna()
    trained = trained.assign(
        scored=scored,
        tried=~trained["status"].isin(NO_OUTCOME),
        outcome=trained["status"].where(scored | (trained["status"] != "ok"), NO_SCORE),
        val_score=trained["val_score"].where(scored),
        test_score=trained["test_score"].where(scored),
    )
    groups = trained.groupby([*CELL, "setting"], observed=True, sort=True)
    settings = groups.agg(
        n_wanted=("seed", "nunique"),
        n_seeds=("scored", "sum"),
        tried=("tried", "any"),
        val=("val_score", "mean"),
        n_val=("val_score", "count"),
        score=("test_score", "mean"),
        learning_rate=("learning_rate", "first"),
        higher=("higher_is_better", "first"),
        parameters=("parameters", "first"),
        state_bytes=("state_bytes", "first"),
        train_kernel=("kernel", "first"),
        train_precision=("precision", "first"),
    ).reset_index()
    sign = np.where(settings["higher"].fillna(True).astype(bool), -1.0, 1.0)
    settings["loss"] = settings["val"].where(settings["n_val"] == settings["n_seeds"]) * sign
    asked = settings.groupby(CELL, observed=True)["n_wanted"].transform("max")
    several = settings["n_seeds"] >= asked.clip(upper=2)
    settings["whole"] = several & (settings["n_seeds"] == settings["n_wanted"])
    settings = settings.sort_values(
        [*CELL, "whole", "n_seeds", "loss", "learning_rate", "setting"],
        ascending=[True, True, True, False, False, True, True, True],
        kind="stable",
    )
    chosen = settings.drop_duplicates(CELL).set_index(CELL)
    tried = settings[settings["tried"]].groupby(CELL, observed=True)
    chosen["n_settings"] = tried["setting"].nunique()
    window = tried["learning_rate"].agg(["min", "max"]).reindex(chosen.index)
    for name, end in (("low", "min"), ("high", "max")):
        chosen[f"learning_rate_{name}"] = window[end].fillna(chosen["learning_rate"])
    chosen = chosen.drop(columns=["val", "n_val", "higher", "loss", "tried", "whole"])
    return _with_intervals(_with_problems(chosen, trained), trained)


def _with_intervals(chosen: Frame, trained: Frame) -> Frame:
    """`score_low` and `score_high`, where at least two seeds have a score."""
    keys = [*CELL, "setting"]
    values = trained[trained["scored"]].sort_values([*keys, "seed", "id"])
    picked = values.merge(chosen.reset_index()[keys], on=keys)
    chosen["score_low"] = chosen["score_high"] = np.nan
    sizes = picked.groupby(CELL, observed=True)["test_score"].transform("size")
    for n_seeds in sorted(set(sizes) - {0, 1}):
        part = picked[sizes == n_seeds]
        lines = part["test_score"].to_numpy(dtype=float).reshape(-1, n_seeds)
        low, high = interval(lines)
        fraction = (part["unit"].iloc[::n_seeds] == "fraction").to_numpy()  # 0 to 1
        low = np.where(fraction, np.maximum(low, np.minimum(0.0, lines.min(axis=1))), low)
        high = np.where(fraction, np.minimum(high, np.maximum(1.0, lines.max(axis=1))), high)
        cells = pd.MultiIndex.from_frame(part[CELL].iloc[::n_seeds])
        chosen.loc[cells, "score_low"], chosen.loc[cells, "score_high"] = low, high
    return chosen


def _with_problems(chosen: Frame, trained: Frame) -> Frame:
    bad = trained[trained["outcome"] != "ok"]
    setting = bad[CELL].merge(chosen["setting"].reset_index(), on=CELL, how="left")["setting"]
    at_chosen = bad["setting"].to_numpy() == setting.to_numpy()
    chosen["problems"] = _counted(bad[at_chosen], "outcome")
    chosen["other_problems"] = _counted(bad[~at_chosen], "outcome")
    return chosen


def _counted(bad: Frame, column: str) -> Any:
    """`1 oom, 2 missing` by cell."""
    counts = bad.groupby([*CELL, column], observed=True).size().reset_index(name="n")
    texts = counts["n"].astype(str) + " " + counts[column].astype(str)
    return texts.groupby([counts[name] for name in CELL], observed=True).agg(", ".join)


def _speeds(frame: Frame) -> Frame:
    """One measuring run per cell: on the machine and at the precision that most cells have."""
    instruments = shown.present(frame)
    has_measured = frame[[*SPEEDS, "peak_bytes"]].notna().any(axis=1)
    if instruments:
        alone = frame["purpose"] == "measure"
        has_measured |= alone & frame[instruments].notna().any(axis=1)
    good = frame[has_measured & (frame["status"] == "ok")]
    common = {
        name: good[name].map(good[name].value_counts()).astype("float64").fillna(0)
        for name in ("hardware", "precision")
    }
    good = good.assign(
        training=good["purpose"] == "train",
        rarity=-common["hardware"],
        odd_precision=-common["precision"],
    )
    good = good.sort_values(
        [*CELL, "training", "rarity", "odd_precision", "seed", "id"], kind="stable"
    )
    first = good.drop_duplicates(CELL).set_index(CELL)
    by_cell = first[[*MEASURED, *HOST]].assign(measured_id=first["id"])
    by_cell = by_cell.join(shown.columns_of(first))
    extra = frame.groupby(CELL, observed=True)[["parameters", "state_bytes"]].first()
    bad = frame[(frame["purpose"] == "measure") & (frame["status"] != "ok")]
    several = good.groupby(CELL, observed=True)["setting"].transform("nunique")
    passed_over = good[(several > 1) & good.duplicated(CELL)].assign(outcome=PASSED_OVER)
    problems = _counted(
        pd.concat([bad.assign(outcome=bad["status"]), passed_over, *_without(frame)]), "outcome"
    )
    problems = problems.rename("measure_problems")
    found = by_cell.join(extra.add_prefix("measured_"), how="outer")
    return found.join(problems, how="left")


def _without(frame: Frame) -> Iterator[Frame]:
    """Rows that lack what an instrument whose numbers are shown was to measure."""
    for name in SHOWN_INSTRUMENTS:
        if f"{name}_missing" in frame:
            rows = frame[(frame["status"] == "ok") & frame[f"{name}_missing"].notna()]
            yield rows.assign(outcome=f"without {name}")
