"""A cost against length, as rows have it: one architecture on one kernel, machine and batch rule.

The cost is the time that T tokens take, so that cells of a fixed batch and of a fixed number of
tokens give the same exponent, or the peak memory of a step. Rows that differ in the kernel, the
precision, the hardware or any setting (batch, width, window) are never in one series; the seeds and
repeats of a cell are one point, their geometric mean. A point of a session in which the machine was
slower or faster than in most is that much less certain.

T   length, tokens
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt
import pandas as pd

from bench.records.markdown import count

Floats: TypeAlias = npt.NDArray[np.float64]
QuantityName: TypeAlias = Literal["train", "infer", "memory"]
ALIKE = ["task", "setting", "precision", "accelerator", "hardware"]
"""What two architectures need to share before their costs are compared."""
Z95 = 1.959964  # half a 95% interval in standard errors


@dataclass(frozen=True, kw_only=True)
class Quantity:
    """A cost that rows hold."""

    name: QuantityName
    column: str
    title: str
    better: str  # what the cheaper one is


TRAIN = Quantity(
    name="train", column="train_tokens_per_s", title="training time", better="is faster"
)
INFER = Quantity(
    name="infer", column="infer_tokens_per_s", title="inference time", better="is faster"
)
MEMORY = Quantity(name="memory", column="peak_bytes", title="peak memory", better="needs less")
QUANTITIES: dict[str, Quantity] = {one.name: one for one in (TRAIN, INFER, MEMORY)}


@dataclass(frozen=True, kw_only=True)
class Series:
    """Costs at ascending lengths, with the standard error of their logarithms."""

    architecture: str
    quantity: Quantity
    alike: tuple[str, ...]  # the values of ALIKE
    kernel: str  # empty if the rows do not say
    lengths: Floats  # (n,) tokens
    costs: Floats  # (n,) seconds per T tokens, or bytes
    errors: Floats  # (n,) relative; 0 where the rows give no interval
    tokens: Floats  # (n,) tokens per batch, NaN where the rows do not say
    references_ms: Floats  # (n,) of the sessions that timed; NaN where nobody knows or it is memory
    noise_floor: float | None  # the largest among the rows; None if none says
    problems: str  # lengths without a cost, and why

    @property
    def task(self) -> str:
        """The task's label."""
        return self.alike[0]

    @property
    def fixed_batch(self) -> bool | None:
        """Whether all lengths had the same number of sequences; None if the rows do not say."""
        if np.isnan(self.tokens).any():
            return None
        return bool(np.ptp(self.tokens / self.lengths) == 0)

    @property
    def batch(self) -> str:
        """`2 T tokens` at a fixed batch of 2, `16,384 tokens` at a fixed number of tokens."""
        if self.fixed_batch is None:
            return ""
        if self.fixed_batch:
            return f"{count(self.tokens[0] / self.lengths[0])} T tokens"
        low, high = count(self.tokens.min()), count(self.tokens.max())
        return f"{low} tokens" if low == high else f"{low} to {high} tokens"


def all_series(frame: pd.DataFrame, quantity: Quantity) -> list[Series]:
    """Every series of a tidy table, in the order of its lines."""
    if frame.empty or quantity.column not in frame:
        return []
    measured = frame[frame["purpose"] == "measure"]
    usable = measured[(measured["status"] == "ok") & (measured[quantity.column] > 0)]
    keys = ["architecture", *ALIKE, "kernel"]
    usable = usable.assign(**{name: usable[name].fillna("") for name in keys})
    lost = measured[~measured.index.isin(usable.index)]
    found = []
    for values, lines in usable.groupby(keys, sort=False):
        name, *alike, kernel = map(str, values)
        same = (lost["architecture"] == name) & (lost["task"] == alike[0])
        points = list(_points(lines, quantity))
        lengths, costs, errors, tokens, references_ms = (
            np.array(part) for part in zip(*points, strict=True)
        )
        floors = (
            lines["noise_floor"].dropna() if "noise_floor" in lines else pd.Series([], dtype=float)
        )
        found.append(
            Series(
                architecture=name,
                quantity=quantity,
                alike=tuple(alike),
                kernel=kernel,
                lengths=lengths,
                costs=costs,
                errors=errors,
                tokens=tokens,
                references_ms=references_ms,
                noise_floor=float(floors.max()) if len(floors) else None,
                problems=_problems(lost[same & (lost["setting"] == alike[1])]),
            )
        )
    return found


def _points(
    lines: pd.DataFrame, quantity: Quantity
) -> Iterator[tuple[float, float, float, float, float]]:
    """Length, cost, standard error of its logarithm, tokens per batch, reference in ms.

    Lengths ascending.
    """
    lengths = lines["length"].to_numpy(dtype=float)
    all_logs = np.log(lines[quantity.column].to_numpy(dtype=float))
    all_errors = _own_errors(lines, quantity)
    all_tokens = lines["tokens_per_batch"].to_numpy(dtype=float)
    all_references = _references_ms(lines, quantity)
    drifts = np.nan_to_num(np.log(all_references / _median(all_references)))
    all_errors = np.hypot(all_errors, drifts)
    for length in np.unique(lengths):
        repeats = lengths == length
        logs = all_logs[repeats]
        n = len(logs)
        error = float(np.sqrt((all_errors[repeats] ** 2).sum())) / n
        if n > 1:  # repeats that differ by more than their intervals say so
            error = max(error, float(logs.std(ddof=1)) / n**0.5)
        mean = float(np.exp(logs.mean()))
        tokens, reference_ms = _mean(all_tokens[repeats]), _median(all_references[repeats])
        cost = mean if quantity is MEMORY else length / mean
        yield float(length), cost, error, tokens, reference_ms


def _mean(values: Floats) -> float:
    """Of what is known; NaN of nothing."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else math.nan


def _median(values: Floats) -> float:
    """Of what is known; NaN of nothing."""
    known = values[~np.isnan(values)]
    return float(np.median(known)) if len(known) else math.nan


def _references_ms(lines: pd.DataFrame, quantity: Quantity) -> Floats:
    """Each line's reference, NaN where it has none and where nothing was timed."""
    if quantity is MEMORY or "reference_ms" not in lines:
        return np.full(len(lines), math.nan)
    return lines["reference_ms"].to_numpy(dtype=float)


def _own_errors(lines: pd.DataFrame, quantity: Quantity) -> Floats:
    """Standard errors of the logarithms, from each line's own 95% interval."""
    ends = [f"{quantity.column}_low", f"{quantity.column}_high"]
    if not set(ends) <= set(lines.columns):
        return np.zeros(len(lines))
    low, high = (lines[end].to_numpy(dtype=float) for end in ends)
    known = (low > 0) & (high >= low)
    errors = np.zeros(len(lines))
    errors[known] = np.log(high[known] / low[known]) / (2 * Z95)
    return errors


def _problems(lost: pd.DataFrame) -> str:
    """`oom at 8,192`."""
    told = sorted(set(zip(lost["length"].tolist(), lost["status"].tolist(), strict=True)))
    return ", ".join(
        f"{status if status != 'ok' else 'no value'} at {count(length)}" for length, status in told
    )
