"""The effect that a claim's evidence has in the rows: a number, its interval, n and the rows.

level         the mean of a column over the rows of a group
difference    the mean over pairs of the group's value less the other's
ratio         the geometric mean over pairs of the group's value over the other's
share         of the rows of a group, those whose column is a word; or the difference of two shares
exponent      of bench/report/scaling.py, or the difference of two

A pair has the same task, length and seed, those left out that the two patterns fix differently.
Where a group was trained at several settings, the one that val chose counts, as in every table.
Intervals: bootstrap over rows or pairs, widened for how few they are; of a single row its own,
where it measured one; Wilson's of a share, Newcombe's of a difference of shares. Two speeds differ
by no less than noise allows.

Nothing is said of a group with a run that has no row, or none of the column: who ended badly is not
left out. (An exponent is of the lengths that fit into memory.) What training gave has to be of two
seeds at least, however many tasks and lengths there are.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

import numpy as np
import pandas as pd

from bench.labels import Labels
from bench.records.bootstrap import interval
from bench.records.expected import NO_OUTCOME
from bench.records.noise import least_ratio
from bench.records.summary import lines_of, summarise
from bench.records.tidy import SPEEDS
from bench.report.claim_file import OF_TRAINING, Evidence, flat
from bench.report.scaling import exponents
from bench.report.series import QUANTITIES
from bench.spec import Run
from bench.study import Study, matches

Z95 = 1.959964  # half a 95% interval in standard errors
PAIRED = ("task", "length", "seed")


@dataclass(frozen=True, kw_only=True)
class Effect:
    """What came of one comparison; `missing` is why there is no value."""

    value: float | None = None
    low: float | None = None  # 95% interval
    high: float | None = None
    n: int = 0
    rows: tuple[str, ...] = ()
    missing: str = ""


@dataclass(frozen=True, kw_only=True)
class Group:
    """The rows of one pattern."""

    pattern: Mapping[str, Any]
    lines: pd.DataFrame  # of the tidy table, those of runs that never ran too


@dataclass(frozen=True)
class _Value:
    row: str
    value: float
    low: float | None
    high: float | None
    noise_floor: object
    reference_ms: object
    hardware: object


class Asked:
    """The runs of a study, each with its line of the tidy table, found by pattern.

    Patterns are held against each pair of architecture and task first: a large study has few.
    """

    def __init__(self, study: Study, frame: pd.DataFrame) -> None:
        self._frame = frame
        self._places = pd.Index(frame["id"])
        self._runs: dict[tuple[str, str], list[Run]] = {}
        architectures, tasks = Labels("architecture"), Labels("task")
        for run in study.runs:
            key = (architectures.of(run.architecture), tasks.of(run.task))
            self._runs.setdefault(key, []).append(run)

    def group(self, pattern: Mapping[str, Any], evidence: Evidence) -> Group:
        """The lines of runs that a pattern matches and that are to give what the evidence is of."""
        of_choice = {key: value for key, value in pattern.items() if _names_choice(key)}
        others = {key: value for key, value in pattern.items() if key not in of_choice}
        gives = _giving(evidence)
        ids = [
            run.id
            for runs in self._runs.values()
            if not of_choice or matches(runs[0], of_choice, "claim")
            for run in runs
            if gives(run) and (not others or matches(run, others, "claim"))
        ]
        places = self._places.get_indexer(ids)
        return Group(pattern=pattern, lines=self._frame.iloc[np.sort(places[places >= 0])])


def _names_choice(key: str) -> bool:
    return key.partition(".")[0] in ("architecture", "task")


def _giving(evidence: Evidence) -> Callable[[Run], bool]:
    """Whether a run is to give what the evidence is of."""
    instrument = evidence.instrument
    if instrument is not None:
        return lambda run: instrument in run.measure.instruments
    trained = _trained(evidence)
    return lambda run: run.purpose == "train" or not trained


def _trained(evidence: Evidence) -> bool:
    """Whether it is of a column that training gives, and that seeds move."""
    return evidence.metric is not None and bool(re.fullmatch(OF_TRAINING, evidence.metric))


def effect(evidence: Evidence, group: Group, against: Group | None) -> Effect:
    """The effect of one comparison, `each` resolved."""
    if evidence.exponent is not None:
        return _exponent(evidence, group, against)
    assert evidence.metric is not None
    if evidence.share_of is not None:
        return _share(evidence, group, against)
    sides = [group] if against is None else [group, against]
    keys = _keys(sides)
    found = [_values(side, evidence.metric, keys) for side in sides]
    for values in found:
        if isinstance(values, str):
            return Effect(missing=values)
    tables = [values for values in found if isinstance(values, dict)]
    shared = [key for key in tables[0] if all(key in table for table in tables)]
    if not shared:
        return Effect(missing="no row of one group has the same task, length and seed in the other")
    if alone := _unpaired(tables, keys):
        return Effect(missing=alone)
    if "seed" in keys and len(shared) > 1 and _trained(evidence):
        place = keys.index("seed")
        if len({key[place] for key in shared}) == 1:
            return Effect(missing=f"{len(shared)} cells of one seed: no interval over seeds")
    if against is None:
        return _level(list(tables[0].values()), evidence)
    pairs = [(tables[0][key], tables[1][key]) for key in shared]
    return _ratio(pairs, evidence) if evidence.by == "ratio" else _difference(pairs, evidence)


def _keys(sides: Sequence[Group]) -> list[str]:
    if len(sides) == 1:
        return list(PAIRED)
    first, second = (side.pattern for side in sides)
    return [name for name in PAIRED if first.get(name) == second.get(name)]


def _values(group: Group, metric: str, keys: list[str]) -> dict[tuple[Any, ...], _Value] | str:
    """The values of a group by key, or why there are none."""
    lines = chosen(group.lines).sort_values("id", kind="stable")
    shown = f"{{{_shown(group.pattern)}}}"
    if lines.empty:
        return f"no run of the study is {shown} with a {metric}"
    column = lines[metric] if metric in lines else pd.Series(math.nan, index=lines.index)
    numbers = pd.to_numeric(column, errors="coerce").astype("float64")
    numbers = numbers.where(lines["status"] == "ok")
    if numbers.isna().any():
        return _lost(group, lines, numbers.isna(), metric)
    found: dict[tuple[Any, ...], _Value] = {}
    for line, value in zip(lines_of(lines), numbers, strict=True):
        key = tuple(line[name] for name in keys)
        if key in found:
            names = sorted({str(name) for name in lines["architecture"]})
            what = (
                f"several architectures, {', '.join(names)}" if len(names) > 1 else "two settings"
            )
            return f"{shown} is {what}: two rows of one task, length and seed"
        found[key] = _Value(
            str(line["id"]),
            float(value),
            _number(line.get(f"{metric}_low")),
            _number(line.get(f"{metric}_high")),
            line.get("noise_floor"),
            line.get("reference_ms"),
            line.get("hardware"),
        )
    return found


def _unpaired(tables: Sequence[Mapping[tuple[Any, ...], _Value]], keys: Sequence[str]) -> str:
    """Which task and length one group alone has; a mean over the others would leave it out."""
    places = [index for index, name in enumerate(keys) if name != "seed"]
    cells = [{tuple(key[index] for index in places): None for key in table} for table in tables]
    for mine, theirs in zip(cells, reversed(cells), strict=True):
        for cell in mine:
            if cell not in theirs:
                where = ", ".join(
                    f"{keys[i]} {value}" for i, value in zip(places, cell, strict=True)
                )
                return f"one group alone was run at {where}: the other has to be run there too"
    return ""


def _lost(group: Group, lines: pd.DataFrame, absent: pd.Series[bool], metric: str) -> str:
    """`{architecture: lstm}: 1 diverged, 2 missing of 6 runs`."""
    outcomes = lines["status"].where(lines["status"] != "ok", f"without {metric}")
    counts = outcomes[absent].value_counts().sort_index()
    told = ", ".join(f"{n} {outcome}" for outcome, n in counts.items())
    return f"{{{_shown(group.pattern)}}}: {told} of {len(lines)} runs"


def chosen(lines: pd.DataFrame) -> pd.DataFrame:
    """Without the settings that val did not choose."""
    trained = lines[lines["purpose"] == "train"]
    if trained["setting"].nunique() < 2:
        return lines
    cells = ["task", "length", "architecture", "setting"]
    kept = pd.MultiIndex.from_frame(summarise(trained)[cells].dropna())
    mine = pd.MultiIndex.from_frame(lines[cells])
    return lines[mine.isin(kept) | (lines["purpose"] != "train").to_numpy()]


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, float | int) and math.isfinite(value) else None


def _level(values: Sequence[_Value], evidence: Evidence) -> Effect:
    numbers = np.array([one.value for one in values])
    alone = values[0]
    low, high = _interval(numbers, evidence, (alone.low, alone.high))
    return Effect(
        value=float(numbers.mean()),
        low=low,
        high=high,
        n=len(values),
        rows=tuple(one.row for one in values),
    )


def _difference(pairs: Sequence[tuple[_Value, _Value]], evidence: Evidence) -> Effect:
    numbers = np.array([one.value - other.value for one, other in pairs])
    one, other = pairs[0]
    own: tuple[float | None, float | None] = (None, None)
    if None not in (ends := (one.low, one.high, other.low, other.high)):
        low, high, other_low, other_high = (float(end) for end in ends if end is not None)
        own = low - other_high, high - other_low
    start, end = _interval(numbers, evidence, own)
    return Effect(value=float(numbers.mean()), low=start, high=end, n=len(pairs), rows=_rows(pairs))


def _ratio(pairs: Sequence[tuple[_Value, _Value]], evidence: Evidence) -> Effect:
    if any(one.value <= 0 or other.value <= 0 for one, other in pairs):
        return Effect(missing="a ratio is of positive numbers", rows=_rows(pairs))
    logs = np.log([one.value / other.value for one, other in pairs])
    one, other = pairs[0]
    own: tuple[float | None, float | None] = (None, None)
    ends = (one.low, one.high, other.low, other.high)
    if all(end is not None and end > 0 for end in ends):
        low, high, other_low, other_high = (float(end) for end in ends if end is not None)
        own = math.log(low / other_high), math.log(high / other_low)
    start, end = _interval(logs, evidence, own)
    mean = float(logs.mean())
    if start is not None and end is not None and evidence.metric in SPEEDS:
        sides = [side for pair in pairs for side in pair]
        one_machine = len({side.hardware for side in sides}) == 1
        references = [side.reference_ms for side in sides if one_machine]
        noise = math.log(least_ratio([side.noise_floor for side in sides], references))
        start, end = min(start, mean - noise), max(end, mean + noise)
    return Effect(
        value=math.exp(mean),
        low=None if start is None else math.exp(start),
        high=None if end is None else math.exp(end),
        n=len(pairs),
        rows=_rows(pairs),
    )


def _interval(
    numbers: np.ndarray[tuple[int, ...], np.dtype[np.float64]],
    evidence: Evidence,
    own: tuple[float | None, float | None],
) -> tuple[float | None, float | None]:
    """The interval of the mean; `own` is that of the first, where it is alone."""
    if evidence.exact:
        return float(numbers.min()), float(numbers.max())
    if len(numbers) == 1:
        return own
    low, high = interval(numbers[None])
    return float(low[0]), float(high[0])


def _share(evidence: Evidence, group: Group, against: Group | None) -> Effect:
    metric, word = evidence.metric, evidence.share_of
    assert metric is not None
    assert word is not None
    sides = [group] if against is None else [group, against]
    counts: list[tuple[int, int]] = []
    rows: list[str] = []
    for side in sides:
        lines = side.lines
        if lines.empty:
            return Effect(missing=f"no row of {{{_shown(side.pattern)}}}", rows=tuple(rows))
        told = lines[metric] if metric in lines else pd.Series(None, lines.index, dtype=object)
        absent = lines["status"].isin(NO_OUTCOME)
        if metric != "status":
            absent |= told.isna() | (lines["status"] != "ok")
        if absent.any():
            return Effect(missing=_lost(side, lines, absent, metric), rows=tuple(rows))
        counts.append((sum(fnmatchcase(str(value), word) for value in told), len(lines)))
        rows += sorted(lines["id"])
    shares = [k / n for k, n in counts]
    ends = [(k / n, k / n) if evidence.exact else _wilson(k, n) for k, n in counts]
    n = min(n for _, n in counts)
    if against is None:
        return Effect(value=shares[0], low=ends[0][0], high=ends[0][1], n=n, rows=tuple(rows))
    (p, q), ((p_low, p_high), (q_low, q_high)) = shares, ends
    return Effect(
        value=p - q,
        low=p - q - math.hypot(p - p_low, q_high - q),
        high=p - q + math.hypot(p_high - p, q - q_low),
        n=n,
        rows=tuple(rows),
    )


def _wilson(k: int, n: int) -> tuple[float, float]:
    """Wilson's 95% interval of a share, k of n."""
    p, z2 = k / n, Z95**2
    middle = (p + z2 / (2 * n)) / (1 + z2 / n)
    half = Z95 * math.sqrt(p * (1 - p) / n + z2 / (4 * n * n)) / (1 + z2 / n)
    return max(0.0, middle - half), min(1.0, middle + half)


def _exponent(evidence: Evidence, group: Group, against: Group | None) -> Effect:
    assert evidence.exponent is not None
    quantity = QUANTITIES[evidence.exponent]
    found, rows = [], []
    for side in [group] if against is None else [group, against]:
        absent = side.lines["status"].isin(NO_OUTCOME)
        if absent.any():
            return Effect(missing=_lost(side, side.lines, absent, quantity.column))
        of_side = exponents(side.lines, quantity)
        shown = _shown(side.pattern)
        if not of_side:
            return Effect(missing=f"no row of {{{shown}}} has a {quantity.column}")
        if len(of_side) > 1:
            return Effect(missing=f"{{{shown}}} is {len(of_side)} series of costs, not one")
        if of_side[0].value is None:
            return Effect(missing=f"{{{shown}}}: {of_side[0].missing}")
        found.append(of_side[0])
        used = side.lines[(side.lines["status"] == "ok") & side.lines[quantity.column].notna()]
        rows += sorted(used["id"])
    values = [(one.value or 0.0, one.low or 0.0, one.high or 0.0) for one in found]
    n = min(one.n_lengths for one in found)
    if against is None:
        value, low, high = values[0]
    else:
        (a, a_low, a_high), (b, b_low, b_high) = values
        value, low, high = a - b, a_low - b_high, a_high - b_low
    return Effect(value=value, low=low, high=high, n=n, rows=tuple(rows))


def _rows(pairs: Sequence[tuple[_Value, _Value]]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(side.row for pair in pairs for side in pair))


def _shown(pattern: Mapping[str, Any]) -> str:
    return flat(pattern)[1:-1]
