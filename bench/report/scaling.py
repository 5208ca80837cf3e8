"""How a cost grows with length: the exponent p of a + b T^p, with its interval.

Model and range. A cost at short lengths is mostly overhead a (dispatch, parameters), and a straight
line in log-log through it gives too small an exponent, however many short lengths are dropped: with
overhead equal to the growing part at T = 1024, the line through 1024 to 8192 has slope 0.76 for a
linear cost. So the overhead is fitted, a >= 0, and left out where noise explains what it gains. The
asymptotic range is the longest suffix of lengths, at least MIN_SUFFIX, whose residuals are no
larger than the points' own intervals and 2% allow (chi-squared at 5%): what changes its regime on
the way loses its short lengths. Where no such suffix fits, the last MIN_SUFFIX lengths are used,
and the remark says so. Three lengths cannot tell overhead from growth: they get a straight line in
log-log, which the remark says too.

Fit. Residuals are relative to the cost. For given p the best a and b are linear least squares, so
the fit is a search along p alone, exact and the same for the same rows.

Interval. Parametric bootstrap: every fitted cost is moved by its own error and by what the
residuals have beyond those errors, whose size, known from few degrees of freedom, is drawn too.

p   exponent; T log T over 256 to 8192 has about 1.15
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import special

from bench.report.series import QUANTITIES, Floats, Quantity, Series, all_series

MIN_LENGTHS = 3
MIN_SUFFIX = 4
MODEL_ERROR = 0.02
"""How far a cost may lie from any smooth law: interleaved medians of one cell differ by so much."""
SIGNIFICANCE = 0.05
STEP = 0.02
GRID = np.arange(STEP, 4.0001, STEP)  # of p; the minimum is then refined by a parabola
N_RESAMPLES = 500
MAX_WIDTH = 1.0
"""An interval wider than from linear to quadratic leaves the exponent undetermined."""
TINY = 1e-12  # a variance that is rounding
MAX_INFLATION = 100.0  # of a variance that one degree of freedom knows


@dataclass(frozen=True, kw_only=True)
class Exponent:
    """The exponent of one series, or why there is none."""

    series: Series
    value: float | None = None
    low: float | None = None  # 95% interval
    high: float | None = None
    r_squared: float | None = None  # of the logarithms, over the range
    shortest: int | None = None  # the range of lengths that was used
    longest: int | None = None
    n_lengths: int = 0  # in the range
    remark: str = ""
    missing: str = ""  # the reason; empty if there is a value


@dataclass(frozen=True)
class _Fit:
    """a + b (T / T_max)^p of every line of costs, each (R,), and its chi-squared."""

    p: Floats
    a: Floats
    b: Floats
    chi_squared: Floats

    def costs(self, lengths: Floats) -> Floats:
        """The fitted costs of the first line, (n,)."""
        grown = (lengths / lengths[-1]) ** self.p[0]
        return np.asarray(self.a[0] + self.b[0] * grown)

    def freedom(self, n_lengths: int) -> int:
        """Degrees of freedom of the residuals."""
        return n_lengths - (3 if self.a[0] > 0 else 2)


def exponents(frame: pd.DataFrame, quantity: Quantity) -> list[Exponent]:
    """The exponent of every series of a tidy table."""
    return [exponent(series) for series in all_series(frame, quantity)]


def all_exponents(frame: pd.DataFrame) -> list[Exponent]:
    """Those of training time, inference time and memory, in this order."""
    return [one for quantity in QUANTITIES.values() for one in exponents(frame, quantity)]


def exponent(series: Series) -> Exponent:
    """Fit one series."""
    n = len(series.lengths)
    if n < MIN_LENGTHS:
        reason = f"{n} length{'' if n == 1 else 's'} measured, {MIN_LENGTHS} are needed"
        return Exponent(series=series, missing=reason)
    if series.quantity is QUANTITIES["memory"] and series.fixed_batch is False:
        return Exponent(series=series, missing="the batch changes with the length")
    start, remark = _range(series)
    lengths, costs, errors = (
        part[start:] for part in (series.lengths, series.costs, series.errors)
    )
    fit = _simplest(lengths, costs, errors)
    low, high = _interval(lengths, costs, errors, fit)
    value = float(fit.p[0])
    if high - low > MAX_WIDTH:
        reason = f"the points allow anything from {low:.2f} to {high:.2f}"
        return Exponent(series=series, missing=reason)
    logs, fitted = np.log(costs), np.log(fit.costs(lengths))
    total = float(((logs - logs.mean()) ** 2).sum())
    return Exponent(
        series=series,
        value=value,
        low=low,
        high=high,
        r_squared=1 - float(((logs - fitted) ** 2).sum()) / total if total else None,
        shortest=int(lengths[0]),
        longest=int(lengths[-1]),
        n_lengths=len(lengths),
        remark=remark,
    )


def _range(series: Series) -> tuple[int, str]:
    """Where the asymptotic suffix begins, and what has to be said of it."""
    n = len(series.lengths)
    if n < MIN_SUFFIX:
        return 0, "straight line in log-log: overhead is not told apart"
    for start in range(n - MIN_SUFFIX + 1):
        lengths = series.lengths[start:]
        fit = _fit(lengths, series.costs[None, start:], series.errors[start:])
        allowed = special.chdtri(fit.freedom(len(lengths)), SIGNIFICANCE)
        if fit.chi_squared[0] <= allowed:
            return start, ""
    return n - MIN_SUFFIX, "no power law: residuals are beyond the intervals"


def _fit(lengths: Floats, costs: Floats, errors: Floats, *, overhead: bool = True) -> _Fit:
    """Fit every line of costs (R, n); without overhead, and of three lengths, a is 0."""
    overhead = overhead and len(lengths) >= MIN_SUFFIX
    precision = 1 / (errors**2 + MODEL_ERROR**2)
    *_, chi_squared = _linear(lengths, costs, precision, GRID[None], overhead)
    p = _refined(chi_squared, chi_squared.argmin(1))
    a, b, chi_squared = _linear(lengths, costs, precision, p[:, None], overhead)
    return _Fit(p=p, a=a[:, 0], b=b[:, 0], chi_squared=np.maximum(chi_squared[:, 0], 0.0))


def _linear(
    lengths: Floats, costs: Floats, precision: Floats, p: Floats, overhead: bool
) -> tuple[Floats, Floats, Floats]:
    """The best a and b and their chi-squared, each (R, G), for p (R, G) or (1, G)."""
    grown = (lengths / lengths[-1])[:, None] ** p[:, None]  # (R or 1, n, G)
    weights = precision / costs**2  # (R, n)
    ones = weights.sum(1, keepdims=True)
    mixed, squares, of_grown = (
        (part[:, None] @ powers)[:, 0]  # (R, G)
        for part, powers in ((weights, grown), (weights, grown**2), (weights * costs, grown))
    )
    of_one = (weights * costs).sum(1, keepdims=True)
    determinant = ones * squares - mixed**2
    told_apart = determinant > 0  # by rounding, not where one cost dwarfs all others
    determinant = np.where(told_apart, determinant, 1.0)
    a = (squares * of_one - mixed * of_grown) / determinant
    b = (ones * of_grown - mixed * of_one) / determinant
    no_overhead = (a < 0) | ~told_apart | (not overhead)
    a, b = np.where(no_overhead, 0.0, a), np.where(no_overhead, of_grown / squares, b)
    falling = b < 0
    a, b = np.where(falling, of_one / ones, a), np.where(falling, 0.0, b)
    return a, b, precision.sum() - a * of_one - b * of_grown


def _refined(chi_squared: Floats, best: npt.NDArray[np.intp]) -> Floats:
    """The minimum of the parabola through the best grid point and its neighbours, (R,)."""
    lines, middle = np.arange(len(best)), np.clip(best, 1, len(GRID) - 2)
    before, here, after = (chi_squared[lines, middle + shift] for shift in (-1, 0, 1))
    bend = before - 2 * here + after
    bent = bend > 0
    shift = np.where(bent, (before - after) / np.where(bent, 2 * bend, 1.0), 0.0)
    return np.asarray(np.where(middle == best, GRID[middle] + STEP * shift, GRID[best]))


def _simplest(lengths: Floats, costs: Floats, errors: Floats) -> _Fit:
    """Without overhead unless that fits worse by more than noise: a >= 0 alone pulls p upwards."""
    with_, without = (_fit(lengths, costs[None], errors, overhead=on) for on in (True, False))
    noise = max(float((errors**2).mean()) + _beyond(lengths, costs, errors, with_), TINY)
    gain = _squares(lengths, costs, without) - _squares(lengths, costs, with_)
    return with_ if gain > special.chdtri(1, SIGNIFICANCE) * noise else without


def _squares(lengths: Floats, costs: Floats, fit: _Fit) -> float:
    """The sum of squared residuals of the logarithms."""
    return float((np.log(costs / fit.costs(lengths)) ** 2).sum())


def _beyond(lengths: Floats, costs: Floats, errors: Floats, fit: _Fit) -> float:
    """The variance that residuals have beyond the points' own errors."""
    scatter = _squares(lengths, costs, fit) / fit.freedom(len(lengths))
    return max(0.0, scatter - float((errors**2).mean()))


def _interval(lengths: Floats, costs: Floats, errors: Floats, fit: _Fit) -> tuple[float, float]:
    """The 95% bootstrap interval of the exponent; without overhead, by fits of both kinds."""
    fitted = fit.costs(lengths)
    freedom = fit.freedom(len(lengths))
    beyond = _beyond(lengths, costs, errors, fit)
    rng = np.random.default_rng(0)
    inflation = np.minimum(freedom / rng.chisquare(freedom, N_RESAMPLES), MAX_INFLATION)
    size = np.sqrt(errors**2 + beyond * inflation[:, None])  # (R, n)
    moved = fitted * np.exp(size * rng.standard_normal(size.shape))
    value = float(fit.p[0])
    models = (True,) if fit.a[0] > 0 else (True, False)
    ends = [
        np.percentile(_fit(lengths, moved, errors, overhead=on).p, [2.5, 97.5]) for on in models
    ]
    return min(value, *(float(low) for low, _ in ends)), max(value, *(float(h) for _, h in ends))
