"""Two studies cell by cell, as before and after a change: what is better, worse, or lost.

A cell is a task, length and architecture of one label. What is called a difference:

score       the 95% interval of the mean difference does not hold 0: Student's, of runs of the same
            seed where both have the same seeds, otherwise Welch's. One seed decides nothing.
speed       the ratio is as large as `bench.records.noise` asks, by the worse of both noise floors
            and by how much the machine itself was slower in one of the sessions, and its own
            interval does not hold 1. Speeds of batches of two sizes are not compared.
memory      more than MEMORY_RATIO apart, and more than the method that measured it is exact to

A change is relative to before. `lost` is a value that the second study was to have and has not.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias

import numpy as np
import pandas as pd
from scipy import special

from bench.records.difference import check_alike, not_alike
from bench.records.markdown import MIB, finite
from bench.records.noise import differ, drift
from bench.records.seeds import scored_runs
from bench.records.summary import CELL, lines_of, problems_of, summarise

Verdict: TypeAlias = Literal[
    "worse", "lost", "better", "undecided", "no difference", "gained", "only before", "only after"
]
MEMORY_RATIO = 1.02
TOLD_DRIFT = 1.05  # of the machine, from one study to the other; less is not worth a remark
EXACT_BYTES = 0.2 * MIB  # of a counter of allocations
COARSE_BYTES = 4 * MIB  # of the resident set, or where the rows do not say
Z95 = 1.959964  # half a 95% interval in standard errors
TAIL = 0.975


@dataclass(frozen=True, kw_only=True)
class Quantity:
    """Something that a cell has a number of."""

    column: str
    title: str
    kind: Literal["score", "speed", "memory"]


QUANTITIES = (
    Quantity(column="score", title="test score", kind="score"),
    Quantity(column="train_tokens_per_s", title="train tokens/s", kind="speed"),
    Quantity(column="infer_tokens_per_s", title="infer tokens/s", kind="speed"),
    Quantity(column="peak_bytes", title="peak MiB", kind="memory"),
    Quantity(column="infer_peak_bytes", title="infer peak MiB", kind="memory"),
)


@dataclass(frozen=True, kw_only=True)
class Change:
    """One quantity of one cell in both studies. Changes are relative: -0.05 is 5% less."""

    task: str
    length: int
    architecture: str
    quantity: Quantity
    higher_is_better: bool
    before: float | None
    after: float | None
    change: float | None = None
    low: float | None = None  # 95% interval of the change
    high: float | None = None
    verdict: Verdict
    remark: str = ""

    @property
    def loss(self) -> float:
        """How much worse it became, relative to before; infinite if it is lost."""
        if self.verdict == "lost":
            return math.inf
        if self.change is None:
            return 0.0
        return -self.change if self.higher_is_better else self.change


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """All changes from one study to another, in the order of the first."""

    changes: Sequence[Change]
    unlike: str  # machines, precisions and world sizes that are mixed; empty if all are alike

    def regressions(self, share: float) -> list[Change]:
        """What is worse by more than noise and by more than this share, and what is lost."""
        bad = ("worse", "lost")
        return [one for one in self.changes if one.verdict in bad and one.loss > share]


def compare(before: pd.DataFrame, after: pd.DataFrame, *, across: bool = False) -> Comparison:
    """Two tidy tables.

    Raises:
        UserError: speeds of different machines, precisions or world sizes would be compared, and
            `across` does not ask for it.
    """
    frames = (before, after)
    summaries = [summarise(frame) for frame in frames]
    both = pd.concat([cells[["hardware", "precision", "world_size"]] for cells in summaries])
    check_alike(both, across)
    cells = [{_key(cell): cell for cell in lines_of(one)} for one in summaries]
    seeds = [
        _by_cell(scored_runs(frame, one)) for frame, one in zip(frames, summaries, strict=True)
    ]
    keys = dict.fromkeys([*cells[0], *cells[1]])
    changes = [
        change
        for key in keys
        for change in _changes(
            key, [one.get(key) for one in cells], [one.get(key, {}) for one in seeds]
        )
    ]
    return Comparison(changes=changes, unlike=not_alike(both))


def _key(cell: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(cell[name] for name in CELL)


def _by_cell(runs: pd.DataFrame) -> dict[tuple[Any, ...], dict[int, float]]:
    """Scores by seed, by cell."""
    found: dict[tuple[Any, ...], dict[int, float]] = {}
    columns = (runs[name].tolist() for name in (*CELL, "seed", "test_score"))
    for task, length, architecture, seed, score in zip(*columns, strict=True):
        found.setdefault((task, length, architecture), {})[seed] = score
    return found


def _changes(
    key: tuple[Any, ...],
    cells: Sequence[Mapping[str, Any] | None],
    seeds: Sequence[Mapping[int, float]],
) -> Iterator[Change]:
    task, length, architecture = key
    for quantity in QUANTITIES:
        values = [_value(quantity, cell) for cell in cells]
        if values == [None, None]:
            continue
        change = Change(
            task=task,
            length=length,
            architecture=architecture,
            quantity=quantity,
            higher_is_better=_higher_is_better(quantity, cells),
            before=values[0],
            after=values[1],
            verdict="undecided",
        )
        before, after = cells
        if before is None or after is None:
            where = "the first" if after is None else "the second"
            side: Verdict = "only before" if after is None else "only after"
            yield replace(change, verdict=side, remark=f"the cell is in {where} study alone")
        elif None in values:
            yield _lost_or_gained(change, before, after)
        elif quantity.kind == "score":
            yield _score(change, seeds[0], seeds[1], before, after)
        elif quantity.kind == "speed":
            yield _speed(change, before, after)
        else:
            yield _memory(change, before, after)


def _value(quantity: Quantity, cell: Mapping[str, Any] | None) -> float | None:
    """What a cell has of a quantity; a speed or a memory of nothing is none."""
    found = finite(cell[quantity.column]) if cell else None
    return None if found is None or (quantity.kind != "score" and found <= 0) else found


def _higher_is_better(quantity: Quantity, cells: Sequence[Mapping[str, Any] | None]) -> bool:
    if quantity.kind != "score":
        return quantity.kind == "speed"
    said = [cell["higher_is_better"] for cell in cells if cell]
    return bool(next((one for one in said if pd.notna(one)), True))


def _lost_or_gained(change: Change, before: Mapping[str, Any], after: Mapping[str, Any]) -> Change:
    """A value that one study alone has, and why the other has none."""
    lost = change.after is None
    cell = dict(after if lost else before)
    asked = cell["n_wanted"] > 0 if change.quantity.kind == "score" else True
    reason = problems_of(cell) or ("no value" if asked else "not asked for")
    if lost and change.quantity.kind != "score" and not cell["measure_problems"]:
        # Nothing failed: the second study did not measure it.
        return replace(change, verdict="only before", remark="not measured in the second study")
    if lost and not asked:
        return replace(change, verdict="only before", remark="not trained in the second study")
    return replace(change, verdict="lost" if lost else "gained", remark=reason)


def _score(
    change: Change,
    before: Mapping[int, float],
    after: Mapping[int, float],
    first: Mapping[str, Any],
    second: Mapping[str, Any],
) -> Change:
    values = [np.array([one[seed] for seed in sorted(one)], dtype=float) for one in (before, after)]
    remarks = [] if before.keys() == after.keys() else ["other seeds"]
    if first["metric"] != second["metric"]:
        told = f"{first['metric']} and {second['metric']}"
        return replace(change, remark=f"the scores are two metrics: {told}")
    if first["learning_rate"] != second["learning_rate"]:
        told = f"{first['learning_rate']:g} and {second['learning_rate']:g}"
        remarks.append(f"learning rate {told}")
    lost = [cell["problems"] for cell in (first, second)]
    if lost[0] != lost[1]:
        remarks.append(f"{lost[0] or 'no'} and {lost[1] or 'no'} lost seeds")
    if min(map(len, values)) < 2:
        return _decided(change, None, False, ["one seed: no interval", *remarks])
    if before.keys() == after.keys():
        gaps = values[1] - values[0]
        error, freedom = float(gaps.std(ddof=1)) / len(gaps) ** 0.5, len(gaps) - 1.0
    else:
        error, freedom = _welch(*values)
    gap = float(values[1].mean() - values[0].mean())
    half = float(special.stdtrit(freedom, TAIL)) * error
    ends = (gap - half, gap + half)
    scale = abs(float(values[0].mean()))
    relative = (ends[0] / scale, ends[1] / scale) if scale else None
    return _decided(change, relative, ends[0] > 0 or ends[1] < 0, remarks, known=True)


def _welch(first: Any, second: Any) -> tuple[float, float]:
    """Standard error of a difference of means, and its degrees of freedom."""
    parts = [float(one.var(ddof=1)) / len(one) for one in (first, second)]
    total = sum(parts)
    if total == 0:
        return 0.0, float(len(first) + len(second) - 2)
    weights = zip(parts, (first, second), strict=True)
    return total**0.5, total**2 / sum(part**2 / (len(one) - 1) for part, one in weights)


def _speed(change: Change, before: Mapping[str, Any], after: Mapping[str, Any]) -> Change:
    assert change.before is not None
    assert change.after is not None
    if not _equal(before["tokens_per_batch"], after["tokens_per_batch"]):
        return replace(change, remark="not compared: the batches have two sizes")
    remarks = []
    if before["kernel"] != after["kernel"]:
        remarks.append(f"kernel {before['kernel']} and {after['kernel']}")
    floors, references = ((before[name], after[name]) for name in ("noise_floor", "reference_ms"))
    if all(finite(floor) is None for floor in floors):
        remarks.append("noise floor not recorded")
    error = math.hypot(*(_error(cell, change.quantity.column) for cell in (before, after)))
    log = math.log(change.after / change.before)
    ends = (math.expm1(log - Z95 * error), math.expm1(log + Z95 * error))
    if before["hardware"] != after["hardware"]:
        references = (None, None)
    if (drifted := drift(references)) >= TOLD_DRIFT:
        slower = "second" if references[1] > references[0] else "first"
        remarks.append(f"the machine was {drifted:.2f}x slower in the {slower}")
    clear = differ(change.before, change.after, floors, references) and abs(log) > Z95 * error
    return _decided(change, ends, clear, remarks, known=True)


def _error(cell: Mapping[str, Any], column: str) -> float:
    """The standard error of a speed's logarithm, from its interval; 0 where it has none."""
    low, high = finite(cell[f"{column}_low"]), finite(cell[f"{column}_high"])
    if low is None or high is None or low <= 0 or high < low:
        return 0.0
    return math.log(high / low) / (2 * Z95)


def _memory(change: Change, before: Mapping[str, Any], after: Mapping[str, Any]) -> Change:
    assert change.before is not None
    assert change.after is not None
    methods = [cell["memory_method"] for cell in (before, after)]
    if methods[0] != methods[1] and all(isinstance(method, str) for method in methods):
        return replace(change, remark=f"not compared: measured by {methods[0]} and {methods[1]}")
    exact = isinstance(methods[0], str) and methods[0] != "resident"
    least = EXACT_BYTES if exact else COARSE_BYTES
    small, large = sorted((change.before, change.after))
    clear = large - small > least and large > MEMORY_RATIO * small
    return _decided(change, None, clear, [], known=True)


def _decided(
    change: Change,
    ends: tuple[float, float] | None,
    clear: bool,
    remarks: Sequence[str],
    *,
    known: bool = False,
) -> Change:
    """The change with its size, interval and verdict; without `known` nothing is decided."""
    assert change.before is not None
    assert change.after is not None
    gap = change.after - change.before
    relative = gap / abs(change.before) if change.before else math.copysign(math.inf, gap)
    verdict: Verdict = "no difference" if known else "undecided"
    if clear:
        verdict = "better" if (gap > 0) == change.higher_is_better else "worse"
    low, high = ends or (None, None)
    return replace(
        change,
        change=0.0 if gap == 0 else relative,
        low=low,
        high=high,
        verdict=verdict,
        remark="; ".join(remarks),
    )


def _equal(first: object, second: object) -> bool:
    """Whether two numbers are, or either is not known."""
    ours, theirs = finite(first), finite(second)
    return ours is None or theirs is None or ours == theirs
