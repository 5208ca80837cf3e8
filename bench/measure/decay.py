"""The decay time of a curve: least squares of log g(k) = a - k / tau, with its interval over rows.

Exponential decay and growth of a gradient with the distance is the vanishing and exploding gradient
of Bengio et al. 1994, https://doi.org/10.1109/72.279181, and Pascanu et al. 2013,
https://arxiv.org/abs/1211.5063.

B rows, K distances, R resamples.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from bench.measure.metrics import Metrics

Floats: TypeAlias = npt.NDArray[np.float64]
Verdict: TypeAlias = Literal["vanishing", "flat", "exploding"]

NOISE_ULPS = 1e4
"""Below this many roundings of the largest value a value is taken for noise: a convolution by FFT
leaves about as much wherever its true result is 0."""
MIN_DISTANCES = 3  # a line through fewer says nothing about its own fit
N_RESAMPLES = 1000
CONFIDENCE = 0.95
REACH_SHARE = 0.01  # of the value at the first distance


@dataclass(frozen=True, kw_only=True)
class Decay:
    """What a curve says of itself.

    `verdict` is `vanishing` if the fitted line falls by more than a factor of e over the distances
    it was fitted to, and the interval of its slope is below 0; `exploding` if it rises likewise;
    `flat` otherwise: a decay time longer than the distances looked at is none. Where fewer than
    three distances lie between noise and overflow, it is what ended the curve.
    """

    verdict: Verdict | None
    rate_per_token: float | None  # 1 / tau
    rate_low: float | None
    rate_high: float | None
    r2: float | None  # of the fitted line
    fitted_to: int  # the largest distance of the fit
    reach: int | None  # the largest distance with over 1% of the value at the first one
    missing: str = ""  # why there is no rate

    def metrics(self, prefix: str) -> Metrics:
        """As keys of a row; the decay time is there where the verdict is `vanishing`."""
        found: Metrics = {f"{prefix}_fitted_to_tokens": self.fitted_to}
        values = {
            "verdict": self.verdict,
            "rate_per_token": self.rate_per_token,
            "rate_per_token_low": self.rate_low,
            "rate_per_token_high": self.rate_high,
            "fit_r2": self.r2,
            "effective_tokens": self.reach,
        }
        found |= {f"{prefix}_{key}": value for key, value in values.items() if value is not None}
        if self.verdict != "vanishing" or self.rate_per_token is None:
            found[f"{prefix}_decay_missing"] = self.missing or f"the curve is {self.verdict}"
            return found
        found[f"{prefix}_decay_tokens"] = 1 / self.rate_per_token
        if self.rate_low is not None and self.rate_high is not None:
            found[f"{prefix}_decay_tokens_low"] = 1 / self.rate_high
            found[f"{prefix}_decay_tokens_high"] = 1 / self.rate_low
        return found


def root_mean_square(norms: Floats) -> Floats:
    """Over the rows of norms (B, K), nan where a row has no such distance: (K,)."""
    present = ~np.isnan(norms)
    with np.errstate(over="ignore", invalid="ignore"):
        total = np.where(present, norms, 0.0) ** 2
        return np.asarray(np.sqrt(total.sum(axis=0) / present.sum(axis=0)))


def fit(distances: Floats, norms: Floats, rounding: float) -> Decay:
    """The decay of norms (B, K), one column for each of the ascending distances (K,).

    `rounding` is the spacing of numbers of the dtype that they were computed in.
    """
    curve = root_mean_square(norms)
    if not len(curve) or not math.isfinite(curve[0]) or curve[0] <= 0:
        reason = "no gradient arrives at the first distance, or it is no finite number"
        return _unfitted(None, 0, None, reason)
    above = np.flatnonzero(curve > REACH_SHARE * curve[0])  # nan and 0 are not
    reach = int(distances[above[-1]])
    n, end = _usable(curve, rounding)
    fitted_to = int(distances[n - 1])
    if n < MIN_DISTANCES:
        if end is None:
            return _unfitted(None, fitted_to, reach, f"{n} distances are too few for a fit")
        how = "falls to rounding noise" if end == "vanishing" else "leaves the floating-point range"
        return _unfitted(end, fitted_to, reach, f"the curve {how} within {fitted_to + 1} tokens")
    k, logs = distances[:n], np.log(curve[:n])
    rate = float(_rates(k, logs[None])[0])
    low, high = _interval(k, norms[:, :n], logs) if len(norms) > 1 else (None, None)
    return Decay(
        verdict=_verdict(rate, low, high, float(k[-1] - k[0])),
        rate_per_token=rate,
        rate_low=low,
        rate_high=high,
        r2=_r2(k, logs, rate),
        fitted_to=fitted_to,
        reach=reach,
    )


def _unfitted(verdict: Verdict | None, fitted_to: int, reach: int | None, missing: str) -> Decay:
    return Decay(
        verdict=verdict,
        rate_per_token=None,
        rate_low=None,
        rate_high=None,
        r2=None,
        fitted_to=fitted_to,
        reach=reach,
        missing=missing,
    )


def _usable(curve: Floats, rounding: float) -> tuple[int, Verdict | None]:
    """How many of the first values are neither noise nor beyond all numbers, and what ends them."""
    finite = np.isfinite(curve)
    n_finite = len(curve) if finite.all() else int(np.argmin(finite))
    noise = NOISE_ULPS * rounding * curve[:n_finite].max()
    quiet = np.flatnonzero(curve[:n_finite] <= noise)
    # A curve that explodes has its small values at the beginning: they are no noise.
    falling = quiet[quiet > int(np.argmax(curve[:n_finite]))]
    if len(falling):
        return int(falling[0]), "vanishing"
    return n_finite, None if n_finite == len(curve) else "exploding"


def _rates(distances: Floats, logs: Floats) -> Floats:
    """Minus the slopes of the least-squares lines through logs (R, K): (R,)."""
    centred = distances - distances.mean()
    return np.asarray(-(logs - logs.mean(axis=1, keepdims=True)) @ centred / (centred @ centred))


def _interval(distances: Floats, norms: Floats, logs: Floats) -> tuple[float, float]:
    """The ends of the percentile-bootstrap interval of the rate over the rows of norms (B, K)."""
    n_rows = len(norms)
    picks = np.random.default_rng(0).integers(0, n_rows, (N_RESAMPLES, n_rows))
    weights = np.stack([(picks == row).sum(axis=1) for row in range(n_rows)], axis=1)  # (R, B)
    scaled = norms / np.exp(logs)  # near 1, so that squares neither vanish nor overflow
    present = ~np.isnan(scaled)
    squares = weights @ np.where(present, scaled, 0.0) ** 2  # (R, K)
    counts = weights @ present.astype(np.float64)
    # Where a resample has no row with a distance, or only zeros, the whole sample stands in.
    known = (squares > 0) & (counts > 0)
    means = np.where(known, squares, 1.0) / np.where(known, counts, 1.0)
    rates = _rates(distances, logs + 0.5 * np.log(means))
    tail = 100 * (1 - CONFIDENCE) / 2
    low, high = np.percentile(rates, [tail, 100 - tail])
    return float(low), float(high)


def _verdict(rate: float, low: float | None, high: float | None, span: float) -> Verdict:
    low, high = (rate if end is None else end for end in (low, high))
    if rate * span > 1 and low > 0:
        return "vanishing"
    if rate * span < -1 and high < 0:
        return "exploding"
    return "flat"


def _r2(distances: Floats, logs: Floats, rate: float) -> float | None:
    """The share of the variance of the logs that the line explains; None if they do not vary."""
    centred = logs - logs.mean()
    total = float(centred @ centred)
    rounding = NOISE_ULPS * np.finfo(np.float64).eps * max(1.0, float(np.abs(logs).max()))
    if total <= len(logs) * rounding**2:
        return None
    left = centred + rate * (distances - distances.mean())
    return 1.0 - float(left @ left) / total
