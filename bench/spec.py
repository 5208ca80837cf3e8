"""A Run as frozen typed data, and its id. Nothing here imports torch.

What the architecture and the task accept is known to `architectures` and `tasks`, and is checked by
`bench.catalogue` before anything runs.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from functools import cached_property
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from bench.errors import UserError, from_validation
from bench.measure import instruments

Precision: TypeAlias = Literal["32-true", "64-true", "bf16-true", "bf16-mixed", "16-mixed"]
ID_LENGTH = 16  # hex digits


def is_id(text: str) -> bool:
    """Whether a text looks like the id of a run."""
    return len(text) == ID_LENGTH and set(text) <= set("0123456789abcdef")


def _printable(text: str) -> str:
    line = " ".join(text.split())
    if not line.isprintable():
        raise ValueError("has a character that cannot be printed")
    return line


Line: TypeAlias = Annotated[str, Field(min_length=1), AfterValidator(_printable)]
"""Text that a terminal, a table and a page can show; runs of white space become one space."""

Count: TypeAlias = Annotated[int, Field(ge=1, le=10**9)]


def _instrument(name: str) -> str:
    if name not in instruments.names():
        choices = ", ".join(map(repr, instruments.names()))
        raise PydanticCustomError("literal_error", "unknown instrument", {"expected": choices})
    return name


Instrument: TypeAlias = Annotated[str, AfterValidator(_instrument)]


class Spec(BaseModel):
    """Frozen data with no unknown key."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", protected_namespaces=(), allow_inf_nan=False
    )


class Choice(Spec):
    """An architecture or a task by name, with the options that differ from its defaults.

    In YAML either the name alone, or a mapping: `{name: lstm, layers: 3, label: deep lstm}`.
    """

    name: str
    label: Line | None = None  # what tables call it; not part of a run's id
    options: dict[str, JsonValue] = Field(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _gather_options(cls, given: object) -> object:
        if isinstance(given, str):
            return {"name": given}
        if not isinstance(given, Mapping):
            raise ValueError(f"has to be a name, or a mapping with a name, not {given!r}")
        known = {key: given[key] for key in ("name", "label") if key in given}
        nested = given.get("options", {})
        if not isinstance(nested, Mapping):
            raise ValueError(f"options is a mapping, not {nested!r}")
        extra = {
            key: value for key, value in given.items() if key not in ("name", "label", "options")
        }
        if twice := sorted(nested.keys() & extra.keys()):
            raise ValueError(f"option {twice[0]!r} is given twice")
        return {**known, "options": {**nested, **extra}}

    def __str__(self) -> str:
        if self.label is not None:
            return self.label
        if not self.options:
            return self.name
        parts = (f"{key}={_short(value)}" for key, value in sorted(self.options.items()))
        return f"{self.name}({', '.join(parts)})"


class TrainingSpec(Spec):
    """How a run trains. The defaults are the harness's protocol."""

    steps: int = Field(1000, ge=0, le=10**9)  # optimiser steps; 0: do not train
    batch_size: Count | None = None  # sequences; None: from tokens_per_batch
    tokens_per_batch: Count | None = None  # batch_size = tokens_per_batch // length
    optimiser: Literal["adamw", "adam", "sgd"] = "adamw"
    learning_rate: float = Field(1e-3, gt=0)
    weight_decay: float = Field(0.01, ge=0)
    schedule: Literal["cosine", "constant"] = "cosine"
    final_learning_rate: float = Field(0.0, ge=0)  # at the last step of the cosine
    warmup_steps: int = Field(0, ge=0, le=10**9)
    clip_norm: float | None = Field(1.0, gt=0)  # of the whole gradient; None: no clipping
    precision: Precision = "32-true"
    tbptt_window: Count | None = None  # tokens; None: backpropagation through all
    val_every: Count | None = None  # steps; None: ten times in a run
    # evaluations without a better val score; None: no early stop
    patience: Count | None = None

    @model_validator(mode="after")
    def _one_batch_size(self) -> TrainingSpec:
        if self.batch_size is not None and self.tokens_per_batch is not None:
            raise ValueError("give batch_size or tokens_per_batch, not both")
        if self.warmup_steps and self.warmup_steps >= self.steps:
            raise ValueError(
                f"warmup_steps {self.warmup_steps} must be less than steps {self.steps}"
            )
        return self

    def sequences(self, length: int) -> int:
        """Sequences per batch at this length."""
        if self.tokens_per_batch is not None:
            return max(1, self.tokens_per_batch // length)
        return 32 if self.batch_size is None else self.batch_size


class MeasureSpec(Spec):
    """What is measured, alone on the machine; nothing unless `instruments` says so."""

    instruments: tuple[Instrument, ...] = ()
    # the most time for the rounds of a cell, warm-up apart; fewer rounds if the interval is narrow
    seconds_per_cell: float = Field(2.0, gt=0)
    min_rounds: int = Field(9, ge=3)
    stream_positions: tuple[Annotated[int, Field(ge=1, le=10**9)], ...] = Field(
        (1, 1000, 10_000, 100_000, 1_000_000), min_length=1
    )  # tokens read before a step of the stream is timed
    stream_reading_s: float = Field(60.0, gt=0)  # to reach them; those beyond are missing
    gradient_train_steps: int = Field(0, ge=0, le=10**9)  # before gradients are measured again
    memory_limit_bytes: int | None = Field(None, ge=1)  # of the longest length; None: what is free
    length_try_s: float = Field(120.0, gt=0)  # when one length is given up
    length_search_s: float = Field(900.0, gt=0)  # when the search is
    max_ranks: int = Field(8, ge=1, le=1024)  # over which the scaling is measured

    @field_validator("stream_positions")
    @classmethod
    def _rising(cls, given: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(sorted(set(given)))

    @field_validator("instruments")
    @classmethod
    def _sorted(cls, given: tuple[Instrument, ...]) -> tuple[Instrument, ...]:
        return tuple(sorted(set(given)))


class ResourceSpec(Spec):
    """Where a run executes, and when it is given up."""

    accelerator: Literal["auto", "cpu", "cuda"] = "auto"
    devices: int = Field(1, ge=1, le=1024)  # per node
    nodes: int = Field(1, ge=1, le=10_000)
    strategy: Literal["auto", "ddp", "fsdp"] = "auto"
    threads: int = Field(1, ge=1, le=1024)  # CPU threads of one process
    timeout_s: float = Field(24 * 3600.0, gt=0)
    memory_bytes: int | None = Field(None, ge=1)  # on a CPU; None: an equal share of what is free
    checkpoint_s: float = Field(300.0, gt=0)  # between two checkpoints
    hang_s: float = Field(1800.0, gt=0)  # without a step before a run is given up


class Run(Spec):
    """One cell: an architecture on a task at a length, trained or measured."""

    architecture: Choice
    task: Choice
    length: int = Field(ge=1, le=10**8)  # tokens
    test_lengths: tuple[Annotated[int, Field(ge=1, le=10**8)], ...] = ()  # tested beside `length`
    seed: int = Field(0, ge=0, lt=2**53)
    width: int | None = Field(None, ge=1, le=10**6)  # D; None: from params, or 64
    params: int | None = Field(
        None, ge=1, le=10**12
    )  # trainable parameters; the width is solved for them
    params_of: Literal["model", "body"] = "model"  # whether embedding and head are counted
    training: TrainingSpec = TrainingSpec()
    measure: MeasureSpec = MeasureSpec()
    resources: ResourceSpec = ResourceSpec()

    @model_validator(mode="after")
    def _consistent(self) -> Run:
        if self.width is not None and self.params is not None:
            raise ValueError("give width or params, not both")
        if self.training.steps == 0 and not self.measure.instruments:
            raise ValueError("training.steps is 0 and measure.instruments is empty: nothing to do")
        if self.training.steps and self.measure.instruments:
            raise ValueError("a run that measures does not train: training.steps has to be 0")
        if self.measure.instruments and self.resources.devices * self.resources.nodes > 1:
            raise ValueError(
                "a run that measures has one device: resources.devices and nodes have to be 1; "
                "over how many the instrument `devices` spreads it says measure.max_ranks"
            )
        if self.test_lengths and not self.training.steps:
            raise ValueError("test_lengths is for runs that train: training.steps is 0")
        if self.length in self.test_lengths or len(set(self.test_lengths)) < len(self.test_lengths):
            raise ValueError(f"test_lengths names a length twice (length is {self.length})")
        if "length" in self.task.options:
            raise ValueError("the length is a key of the run, not an option of the task")
        return self

    @cached_property
    def id(self) -> str:
        """The hash of the canonical JSON of what decides the result.

        Labels, limits of time and memory, and when checkpoints are made do not. Keys at their
        defaults are left out, so that a new key with a default does not orphan the rows of earlier
        versions.
        """
        return _digest(self._identity())

    def with_seed(self, seed: int) -> Run:
        """The same run with another seed, one that a run may have; all else is shared."""
        copied = self.model_copy(update={"seed": seed})
        copied.__dict__.pop("id", None)  # it was that of the other seed
        return copied

    @property
    def setting(self) -> str:
        """The hash of all but architecture, task, length and seed: runs alike in it are repeats."""
        identity = self._identity()
        for key in ("architecture", "task", "length", "seed", "measure"):
            identity.pop(key, None)
        return _digest(identity)[:8]

    @property
    def purpose(self) -> Literal["train", "measure"]:
        """A run that does not train measures alone on the machine."""
        return "train" if self.training.steps else "measure"

    def _identity(self) -> dict[str, Any]:
        identity = self.model_dump(
            mode="json",
            exclude_defaults=True,
            exclude={
                "architecture": {"label"},
                "task": {"label"},
                "resources": {"timeout_s", "memory_bytes", "checkpoint_s", "hang_s"},
            },
        )
        return {key: value for key, value in identity.items() if value != {}}

    def __str__(self) -> str:
        return f"{self.architecture} {self.task} length {self.length} seed {self.seed}"


def parse_run(given: Mapping[str, object], where: str = "run") -> Run:
    """Make a Run of plain data; a UserError names the first thing that is wrong."""
    try:
        return Run.model_validate_json(json.dumps(given, allow_nan=False), strict=True)
    except ValidationError as error:
        raise from_validation(error, where, RUN_KEYS) from None
    except (TypeError, ValueError) as error:  # what JSON has not: inf, nan, or Python's own types
        raise UserError(f"{where}: {error}") from None


def keys_of(model: type[BaseModel], prefix: str = "") -> dict[str, list[str]]:
    """The keys of every section below a model, by dotted path."""
    found = {prefix.rstrip("."): list(model.model_fields)}
    for name, field in model.model_fields.items():
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, Spec) and inner is not Choice:
            found |= keys_of(inner, f"{prefix}{name}.")
    return found


RUN_KEYS = keys_of(Run)


def _digest(data: object) -> str:
    text = _canonical(data)
    if re.search(r"\.0(?!\d)|e\+", text):  # perhaps a whole float; most data have none
        text = _canonical(_alike(data))
    return hashlib.sha256(text.encode()).hexdigest()[:ID_LENGTH]


def _canonical(data: object) -> str:
    return json.dumps(
        data, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False
    )


def _alike(data: object) -> object:
    """The data with whole floats as integers, so that 0, 0.0 and -0.0 are one option."""
    if isinstance(data, Mapping):
        return {key: _alike(value) for key, value in data.items()}
    if isinstance(data, list):
        return [_alike(value) for value in data]
    return int(data) if isinstance(data, float) and data.is_integer() else data


def _short(value: object) -> str:
    return value if isinstance(value, str) and value.isprintable() else json.dumps(value)
