"""A row: what a run leaves, as one JSON object. Knows nothing of torch.

Units live in the names of the metrics: `train_tokens_per_s`, `step_ms_p50`, `peak_bytes`.
"""

from __future__ import annotations

from typing import Any, Literal, TypeAlias, get_args

from pydantic import BaseModel, ConfigDict, Field, field_validator

SCHEMA_VERSION = 1

Status: TypeAlias = Literal[
    "ok", "oom", "timeout", "diverged", "failed", "preempted", "unsupported"
]
MOST = 1e300
"""No number of a row is larger: sums and means of larger ones are infinite."""
STATUSES: tuple[Status, ...] = get_args(Status)


def _unsaid(value: object) -> bool:
    """Whether a later key stands at its default: rows that never had it keep their bytes."""
    return value is None or value == ""


class Scored(BaseModel):
    """What the score of a task means: its primary metric."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    metric: str  # "accuracy", "bits_per_byte", "mse"
    unit: str
    higher_is_better: bool
    chance: float | None
    baseline: float | None = Field(default=None, exclude_if=_unsaid)
    """The score of a trivial rule that reads a part of the input; None: the row does not say."""
    baseline_rule: str = Field(default="", exclude_if=_unsaid)

    @field_validator("chance", "baseline")
    @classmethod
    def _finite(cls, level: float | None) -> float | None:
        """A level that is no number is not known."""
        return None if _not_finite(level) else level


class Row(BaseModel):
    """One run's outcome. Written once, never changed.

    `metrics` of a run that trained: `test_score` and `val_score` (of the primary metric, test at
    the weights that were best on val), `test_<metric>` and `val_<metric>` for every metric,
    `steps_done`, `best_step`, `train_seconds`, `observed_train_tokens_per_s` (other cells ran
    beside it: not a measurement). Of a run that measured: `train_tokens_per_s`,
    `infer_tokens_per_s` and their `_low` and `_high` (95% bootstrap interval of the median),
    `step_ms_p50`, `_p90`, `_p99`, `first_step_ms`, `rounds`, `noise_floor` (a ratio),
    `reference_ms`, `peak_bytes`, and what else `bench.measure.session` and the other instruments
    name; `<instrument>_missing` is the reason why one of them has no numbers.
    Of both: `parameters`, `body_parameters`, `width`, `state_bytes`, `flops_per_token`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: Literal[1] = 1
    id: str
    study: str
    status: Status
    reason: str = ""  # one line; empty if ok
    log_tail: str = ""  # the last lines that a run printed before it ended badly
    run: dict[str, Any]  # the Run as given
    resolved: dict[str, Any] = Field(
        default_factory=dict
    )  # every option with its default filled in
    scored: Scored | None = None
    kernel: str | None = None  # the implementation that ran
    metrics: dict[str, float | int | str | None] = Field(default_factory=dict)
    curves: dict[str, list[tuple[float, float | None]]] = Field(
        default_factory=dict
    )  # (step, value)
    provenance: dict[str, Any] = Field(default_factory=dict)

    @field_validator("metrics")
    @classmethod
    def _finite(cls, metrics: dict[str, Any]) -> dict[str, Any]:
        """A number that is not one is missing: JSON has no NaN."""
        return {key: None if _not_finite(value) else value for key, value in metrics.items()}

    @field_validator("curves")
    @classmethod
    def _finite_curves(cls, curves: dict[str, Any]) -> dict[str, Any]:
        return {
            name: [(x, None if _not_finite(y) else y) for x, y in points if not _not_finite(x)]
            for name, points in curves.items()
        }


def _not_finite(value: object) -> bool:
    return isinstance(value, int | float) and not abs(value) <= MOST
