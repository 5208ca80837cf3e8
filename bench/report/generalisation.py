"""Length generalisation: the score at lengths beyond the training length, from the tidy table.

The effective length is the longest that a model still serves: Hsieh et al. 2024 (RULER),
https://arxiv.org/abs/2404.06654, section 4, where a score has to stay above that of Llama2-7B at
4K, 85.6%. Here the threshold is

    chance + share (score at the training length - chance)

so that it means the same where lower is better, or a value of the caller's own. Chance is that of
the training length. The mean over lengths beyond it is that of Delétang et al. 2023,
https://arxiv.org/abs/2207.02098, section 4.
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pandas as pd

from bench.records.bootstrap import interval
from bench.records.summary import CELL, lines_of, summarise

Frame = pd.DataFrame
SHARE = 0.9
TESTED = "tested_length"
TESTED_COLUMN = re.compile(r"(?:test_.+_at|missing_at)_\d+")
BY_LENGTH_COLUMNS = [
    *CELL,
    *(TESTED, "ratio", "score", "score_low", "score_high", "n_seeds", "n_wanted", "missing"),
]
FLOATS = (
    *("ratio", "score", "score_low", "score_high", "threshold"),
    *("beyond", "beyond_low", "beyond_high"),
)
SUMMARY_COLUMNS = [
    *CELL,
    *("metric", "higher_is_better", "score", "threshold"),
    *("effective_length", "effective_is_a_bound", "effective_missing"),
    *("longest_tested", "n_lengths_beyond"),
    *("beyond", "beyond_low", "beyond_high", "beyond_missing", "n_seeds", "n_wanted"),
]


def by_length(frame: Frame) -> Frame:
    """One line per cell and tested length, the training length among them, ascending.

    `score` is the mean over the seeds that have one at that length, of the setting that val chose;
    `n_seeds` of `n_wanted` have one, and `missing` says why the others have not. `ratio` is the
    tested length over the training length. The interval is missing with one seed.
    """
    lines = []
    for cell, runs in _cells(frame):
        for length in _lengths(runs, cell):
            values = _scores(runs, cell, length)
            low, high = _ends(values.dropna().to_numpy(dtype=float))
            lines.append(
                {
                    **{key: cell[key] for key in CELL},
                    TESTED: length,
                    "ratio": length / cell["length"],
                    "score": values.mean(),
                    "score_low": low,
                    "score_high": high,
                    "n_seeds": int(values.notna().sum()),
                    "n_wanted": len(runs),
                    "missing": "; ".join(_reasons(runs, values, length)),
                }
            )
    return _typed(pd.DataFrame.from_records(lines, columns=BY_LENGTH_COLUMNS))


def summary(frame: Frame, *, share: float = SHARE, threshold: float | None = None) -> Frame:
    """One line per cell whose runs were tested at other lengths.

    `effective_length` is the longest tested length up to which every score, from the training
    length on, is no worse than `threshold`; `effective_is_a_bound` says that the true one may be
    longer, because no length failed: the next one is missing, or none was tested. It is missing
    where the model does not serve its own length, or is no better than chance there; then
    `effective_missing` says so.

    `beyond` is the mean over the tested lengths beyond the training length, over seeds, with the
    interval over seeds; missing unless every seed has a score at each, and `beyond_missing` names
    those that lack one.

    Args:
        frame: a tidy table.
        share: of the way from chance to the score at the training length.
        threshold: a score, in place of `share`.
    """
    if not 0 <= share <= 1:
        raise ValueError(f"share must be between 0 and 1, not {share}")
    lengths = dict(iter(by_length(frame).groupby(CELL, sort=False)))
    lines = []
    for cell, runs in _cells(frame):
        part = lengths[tuple(cell[key] for key in CELL)]
        lines.append(
            {
                **{key: cell[key] for key in [*CELL, "metric", "higher_is_better"]},
                **_effective(cell, part, share, threshold),
                **_beyond(cell, runs),
                "longest_tested": int(part[TESTED].max()),
                "n_wanted": len(runs),
            }
        )
    return _typed(pd.DataFrame.from_records(lines, columns=SUMMARY_COLUMNS))


def _typed(found: Frame) -> Frame:
    """The same with columns of the types that their names say, whatever is missing."""
    types = dict.fromkeys(FLOATS, "float64") | {
        "effective_length": "Int64",
        "effective_is_a_bound": "boolean",
    }
    return found.astype({name: kind for name, kind in types.items() if name in found})


def _cells(frame: Frame) -> list[tuple[dict[str, Any], Frame]]:
    """Each cell with the runs of its chosen setting, if some length but its own was tested."""
    trained = frame[frame["purpose"] == "train"]
    tested = [name for name in trained.columns if TESTED_COLUMN.fullmatch(str(name))]
    if not tested or trained[tested].isna().all(axis=None):
        return []
    keys = [*CELL, "setting"]
    runs_of = dict(iter(trained.sort_values(["seed", "id"]).groupby(keys, sort=False)))
    found = []
    for cell in lines_of(summarise(frame)):
        runs = runs_of.get(tuple(cell[key] for key in keys))
        if runs is not None and len(_lengths(runs, cell)) > 1:
            found.append((cell, runs))
    return found


def _lengths(runs: Frame, cell: dict[str, Any]) -> list[int]:
    """The tested lengths of a cell, those without a score too, ascending."""
    metric = re.escape(str(cell["metric"]))
    pattern = re.compile(rf"(?:test_{metric}_at|missing_at)_(\d+)")
    named = ((name, pattern.fullmatch(str(name))) for name in runs.columns)
    tested = {int(match[1]) for name, match in named if match and runs[name].notna().any()}
    return sorted(tested | {int(cell["length"])})


def _scores(runs: Frame, cell: dict[str, Any], length: int) -> pd.Series[float]:
    """The test scores of the runs at a length; nan where one has none."""
    own = length == cell["length"]
    name = "test_score" if own else f"test_{cell['metric']}_at_{length}"
    if name not in runs:
        return pd.Series(np.nan, index=runs.index)
    numbers = pd.to_numeric(runs[name], errors="coerce").astype("Float64").astype("float64")
    return numbers.where(runs["status"] == "ok")


def _reasons(runs: Frame, values: pd.Series[float], length: int) -> list[str]:
    """Why runs have no score at a length, each reason once."""
    absent = runs[values.isna()]
    column = f"missing_at_{length}"
    said = absent[column] if column in absent else pd.Series(None, absent.index, dtype=object)
    otherwise = absent["status"].where(absent["status"] != "ok", "not tested at this length")
    return list(dict.fromkeys(str(reason) for reason in said.where(said.notna(), otherwise)))


def _effective(
    cell: dict[str, Any], part: Frame, share: float, threshold: float | None
) -> dict[str, Any]:
    """Effective length and threshold of a cell, from its lines of `by_length`."""
    unknown = {"effective_length": None, "effective_is_a_bound": None, "threshold": threshold}
    own = part[part[TESTED] == cell["length"]].iloc[0]
    score = float(own["score"])
    unknown["score"] = score
    if np.isnan(score):
        return {**unknown, "effective_missing": f"no score at {cell['length']}: {own['missing']}"}
    sign = 1.0 if bool(cell["higher_is_better"]) else -1.0
    if threshold is None:
        chance = cell["chance"]
        if pd.isna(chance):
            return {**unknown, "effective_missing": "the task's chance level is not known"}
        if sign * (score - chance) <= 0:
            return {**unknown, "effective_missing": "no better than chance at its own length"}
        threshold = float(chance + share * (score - chance))
    effective, is_a_bound = None, True
    for line in lines_of(part[part[TESTED] >= cell["length"]]):
        if line["n_seeds"] < line["n_wanted"] and line[TESTED] > cell["length"]:
            break
        if sign * (line["score"] - threshold) < 0:
            is_a_bound = False
            break
        effective = int(line[TESTED])
    known = {**unknown, "threshold": threshold}
    if effective is None:
        return {**known, "effective_missing": "its score at its own length is below the threshold"}
    return {
        **known,
        "effective_length": effective,
        "effective_is_a_bound": is_a_bound,
        "effective_missing": "",
    }


def _beyond(cell: dict[str, Any], runs: Frame) -> dict[str, Any]:
    """The mean over lengths beyond the training length, by seed, then over seeds."""
    lengths = [length for length in _lengths(runs, cell) if length > cell["length"]]
    table = pd.DataFrame({length: _scores(runs, cell, length) for length in lengths})
    complete = table.dropna()
    found: dict[str, Any] = {
        "n_lengths_beyond": len(lengths),
        "n_seeds": len(complete) if lengths else 0,
        "beyond": None,
        "beyond_low": None,
        "beyond_high": None,
        "beyond_missing": "",
    }
    if not lengths:
        return {**found, "beyond_missing": "no length beyond its own was tested"}
    if absent := [length for length in lengths if table[length].isna().any()]:
        told = [
            f"{length} ({'; '.join(_reasons(runs, table[length], length))})" for length in absent
        ]
        return {**found, "beyond_missing": ", ".join(told)}
    by_seed = complete.mean(axis=1).to_numpy(dtype=float)
    low, high = _ends(by_seed)
    return {**found, "beyond": float(by_seed.mean()), "beyond_low": low, "beyond_high": high}


def _ends(values: Any) -> tuple[float | None, float | None]:
    """The interval of the mean over seeds; missing with fewer than two."""
    if len(values) < 2:
        return None, None
    low, high = interval(values.reshape(1, -1))
    return float(low[0]), float(high[0])
