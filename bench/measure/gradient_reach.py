"""Gradient reach: how far back an output's gradient goes, at initialisation and after training.

    L = v . y_t                  v random, y_t the body's output at the last scored token t
    g(k) = |dL / dx_(t-k)|       x the embedded input
    s(k) = |dL / dh_(t-k)|       h the state after token t - k

Norms of each row of some val examples, then their root mean square over the rows; what a curve says
of itself is in decay.py. v is random, because the gradient of the loss would have the head's
initialisation in it. Computed in float64 where the body runs in it, whatever the run trains in.
Truncated backpropagation acts on the training alone: what is measured is the gradient through the
whole sequence.

With STAGE `init` or `trained`, and SOURCE `input` or `state`, the keys are

    reach_SOURCE_json                      {"k": [1, 2, ...], "init": [g(1), ...], "trained": ...}
    reach_SOURCE_limit_tokens              the largest k that half of the rows have
    reach_SOURCE_STAGE_verdict             vanishing, flat or exploding
    reach_SOURCE_STAGE_decay_tokens        tau of g(k) ~ exp(-k / tau), _low and _high
    reach_SOURCE_STAGE_effective_tokens    the largest k with g(k) > 0.01 g(1)
    jacobian_json                          {"t": [...], "init": [...], ...}: jacobian.py, medians
    jacobian_STAGE_p50, jacobian_STAGE_max largest singular value, over rows and positions
    clipped_share, gradient_norm_p50, _p99 of the training (clipping.py)

B batch, T time, K distances, P positions.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from typing import Literal, TypeAlias

import numpy as np
import torch
from torch import Tensor

from architectures.body import UnsupportedError
from bench.measure import clipping, decay, jacobian
from bench.measure.decay import Floats
from bench.measure.metrics import Metrics
from bench.measure.probe import Probe
from bench.spec import Run
from bench.training import products
from bench.training.execute import device_of, prepare
from bench.training.module import DivergedError

Stage: TypeAlias = Literal["init", "trained"]
Probes: TypeAlias = Mapping[Stage, Probe]

N_POINTS = 64  # of a curve in a row
COMMON_SHARE = 0.5  # of the rows: they have to have a distance that is reported


def measure(run: Run, train_steps: int | None = None) -> Metrics:
    """The gradient reach of a run's model on its task, again after `train_steps` if there are any.

    None: the run's `measure.gradient_train_steps`.

    Training is by the run's own settings. The random numbers of the process are left as they were.

    Raises:
        UnsupportedError: the architecture cannot do this task, or nothing of it is scored.
        UserError: an unknown name or option.
    """
    train_steps = run.measure.gradient_train_steps if train_steps is None else train_steps
    if train_steps < 0:
        raise ValueError(f"train_steps must be at least 0, not {train_steps}")
    device = device_of(run)
    products.settle(device)
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        prepared = prepare(run).to(device)
        probes: dict[Stage, Probe] = {"init": Probe(prepared)}
        found: Metrics = {"reach_dtype": str(probes["init"].dtype).removeprefix("torch.")}
        if train_steps:
            try:
                found |= clipping.train(prepared, train_steps)
                probes["trained"] = Probe(prepared)
            except DivergedError as error:
                found["reach_trained_missing"] = str(error)
        parts: dict[str, Callable[[Probes], Metrics]] = {
            "reach_input": input_reach,
            "reach_state": state_reach,
            "jacobian": jacobians,
        }
        for name, part in parts.items():
            try:
                found |= part(probes)
            except UnsupportedError as error:
                found[f"{name}_missing"] = str(error)
    return found


def input_reach(probes: Probes) -> Metrics:
    """The norms of dL / dx_(t-k) at every k, and their decay."""
    norms = {stage: by_distance(*probe.input_norms()) for stage, probe in probes.items()}
    limit = next(iter(norms.values())).shape[1]
    if limit < 1:
        raise UnsupportedError("the last scored token is the first: nothing is before it")
    return _summary("reach_input", np.arange(1.0, limit + 1), norms, probes)


def state_reach(probes: Probes) -> Metrics:
    """The norms of dL / dh_(t-k) at k = 1, 2, 4, ..., and their decay."""
    ends = next(iter(probes.values())).reading().ends
    limit = _common(ends)
    distances = [2**i for i in range(limit.bit_length())]
    if not distances:
        raise UnsupportedError("the last scored token is the first: nothing is before it")
    norms = {}
    for stage, probe in probes.items():
        table = np.full((len(ends), len(distances)), np.nan)
        for column, distance in enumerate(distances):
            rows = (ends >= distance).cpu().numpy()
            table[rows, column] = probe.state_norms(distance).double().cpu().numpy()
        norms[stage] = table
    return _summary("reach_state", np.array(distances, dtype=np.float64), norms, probes)


def jacobians(probes: Probes) -> Metrics:
    """The largest singular value of dh_t / dh_(t-1) at positions that all rows have."""
    reading = next(iter(probes.values())).reading()
    length = int(reading.ends.min()) + 1
    positions = jacobian.positions_along(length)
    if not positions:
        raise UnsupportedError("a row has one token: there is no step from a state")
    found: Metrics = {}
    curves: dict[str, list[float | None]] = {"t": [float(t) for t in positions]}
    for stage, probe in probes.items():
        rng = torch.Generator().manual_seed(0)
        x = probe.reading().x[:, :length]
        values = jacobian.along(probe.model.body, x, positions, rng).double()  # (P, B)
        curves[stage] = _numbers(values.median(dim=1).values.tolist())
        found[f"jacobian_{stage}_p50"] = values.median().item()
        found[f"jacobian_{stage}_max"] = values.max().item()
    return {**found, "jacobian_json": _json(curves)}


def by_distance(norms: Tensor, distances: Tensor) -> Floats:
    """Norms (B, P) at distances (B, P) as a table (B, K) of k = 1 to K, nan where a row has no k.

    K is the largest distance that half of the rows have.
    """
    n_rows = len(norms)
    limit = _common(distances.amax(dim=1))
    table = np.full((n_rows, limit + 1), np.nan)
    kept = ((distances >= 1) & (distances <= limit)).cpu()
    rows, _ = kept.nonzero(as_tuple=True)
    table[rows.numpy(), distances.cpu()[kept].numpy()] = norms.double().cpu()[kept].numpy()
    return table[:, 1:]


def _common(ends: Tensor) -> int:
    """The largest number that at least half of the ends (B,) reach."""
    descending = ends.sort(descending=True).values
    return int(descending[math.ceil(COMMON_SHARE * len(descending)) - 1])


def _summary(
    name: str, distances: Floats, norms: Mapping[Stage, Floats], probes: Probes
) -> Metrics:
    """Curves and decay of norms (B, K) at distances (K,)."""
    limit = int(distances[-1])
    wanted = np.unique(np.round(np.geomspace(1, limit, N_POINTS)))
    shown = np.flatnonzero(np.isin(distances, wanted)) if len(distances) > N_POINTS else slice(None)
    curves: dict[str, list[float | None]] = {"k": distances[shown].tolist()}
    found: Metrics = {f"{name}_limit_tokens": limit, f"{name}_rows": len(norms["init"])}
    for stage, table in norms.items():
        rounding = torch.finfo(probes[stage].dtype).eps
        found |= decay.fit(distances, table, rounding).metrics(f"{name}_{stage}")
        curves[stage] = _numbers(decay.root_mean_square(table)[shown].tolist())
    return {**found, f"{name}_json": _json(curves)}


def _numbers(values: list[float]) -> list[float | None]:
    """To six digits; None where one is no finite number."""
    return [float(f"{value:.6g}") if math.isfinite(value) else None for value in values]


def _json(curves: Mapping[str, list[float | None]]) -> str:
    whole = {
        key: [int(value) if key in "kt" and value is not None else value for value in values]
        for key, values in curves.items()
    }
    return json.dumps(whole, separators=(",", ":"), allow_nan=False)
