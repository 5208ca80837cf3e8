"""A file of claims: statements, and the comparison of rows that decides each.

Example::

    claims:
      - name: gating                  # for reference; every name once
        says: Gating makes a network learn lags of a hundred steps and more.
        source: Hochreiter and Schmidhuber 1997
        evidence:                     # all of it has to hold
          - metric: test_score        # a column of `bench table STUDY --format csv`
            group: {architecture: lstm, task: temporal_order, length: 200}
            above: 0.75               # or below, or between: [0.8, 1.2]
            min_n: 3                  # rows, or pairs of rows
          - metric: test_score
            group: {architecture: lstm}         # a pattern, as in `exclude` of a study
            against: {architecture: rnn}
            by: difference            # or ratio
            each: {length: [100, 200]}          # once for each of these, in both patterns
            above: 0
          - exponent: train           # of training time in length; or infer, memory
            group: {architecture: lstm}
            between: [0.8, 1.2]
          - metric: status            # a column of words: the share of rows that have this one;
            share_of: diverged        # `*` stands for any letters
            group: {training.clip_norm: null}
            above: 0.5
"""

from __future__ import annotations

import itertools
import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

import pandas as pd
from pydantic import Field, JsonValue, ValidationError, model_validator

from bench import listing, plain_yaml, plugins
from bench.errors import UserError, from_validation, unknown
from bench.records.tidy import COLUMNS, METRICS, SPEEDS
from bench.report.series import QuantityName
from bench.spec import RUN_KEYS, Line, Spec, keys_of
from bench.study import check_key

SHIPPED = Path(__file__).resolve().parents[2] / "results" / "claims.yaml"
FILE = "claims.yaml"
"""Claims of a study's own, in its folder."""
PURPOSE = "purpose"
BARE = r"[A-Za-z_][\w.-]*"  # text that needs no quotes in YAML, unless it is one of
WORDS = ("null", "true", "false")

Pattern: TypeAlias = Annotated[dict[str, JsonValue], Field(min_length=1)]
Relation: TypeAlias = Literal["above", "below", "between"]
MOST_COMPARISONS = 10_000  # that one piece of evidence may stand for
RELATIONS: tuple[Relation, ...] = ("above", "below", "between")

INSTRUMENT_COLUMNS = {
    "throughput": (
        rf"({'|'.join(SPEEDS)})(_low|_high)?|(step|infer)_ms_p(50|90|99)|first_(step|infer)_ms"
        r"|(infer_)?rounds(_rejected|_outlying)?|noise_floor|reference_ms|tokens_per_batch"
        r"|(train|infer)_(mfu|bandwidth_share)"
    ),
    "memory": r"(infer_)?peak_bytes|(parameter|gradient|optimiser|activation)_bytes|memory_\w+",
    "streaming": (
        r"stream(64)?_(us_p(50|99)|state_bytes)_at_\d+(_low|_high)?"
        r"|stream(64)?_(state_verdict|latency_verdict|state_bytes_per_token|latency_ratio)"
        r"|stream(64)?_us_per_1000_tokens_read(_low|_high)?|stream_drift_at_\d+"
    ),
    "gradient_reach": (
        r"reach_(input|state)_(limit_tokens|rows)"
        r"|reach_(input|state)_(init|trained)_(verdict|fit_r2|(fitted_to|effective)_tokens)"
        r"|reach_(input|state)_(init|trained)_(decay_tokens|rate_per_token)(_low|_high)?"
        r"|jacobian_(init|trained)_(p50|max)|clipped_share|gradient_norm_p(50|99)"
    ),
    "energy": r"energy_\w+",
    "longest_length": r"longest_length\w*",
}
"""What instruments write, before any row has it."""
RUN_COLUMNS = (
    r"test_score_beyond|steps_done|best_step|train_(tokens|seconds)"
    r"|body_parameters|width|flops_per_token"
)
OF_A_TASK = r"(test|val)_\w+"
"""What a task's own metrics are called; which there are, its rows know."""
OF_TRAINING = rf"{OF_A_TASK}|steps_done|best_step|train_(tokens|seconds)"
"""Columns that rows of runs have which trained, and no others."""


class Evidence(Spec):
    """One comparison."""

    metric: str | None = None  # a column of the tidy table
    exponent: QuantityName | None = None  # or how this cost grows with length
    share_of: str | None = None  # of the rows, those whose metric is this, `*` being any letters
    group: Pattern
    against: Pattern | None = None
    by: Literal["difference", "ratio"] = "difference"
    each: dict[str, Annotated[list[JsonValue], Field(min_length=1)]] = Field(default_factory=dict)
    above: float | None = None
    below: float | None = None
    between: tuple[float, float] | None = None
    min_n: int = Field(2, ge=1, le=1000)  # rows or pairs; of an exponent, lengths
    exact: bool = False  # a count that no noise moves: one row is enough, and its own interval

    @model_validator(mode="after")
    def _whole(self) -> Evidence:
        if (self.metric is None) == (self.exponent is None):
            raise ValueError("give metric or exponent, one of them")
        if sum(getattr(self, name) is not None for name in RELATIONS) != 1:
            raise ValueError(f"give one of {', '.join(RELATIONS)}")
        if self.between is not None and self.between[0] > self.between[1]:
            raise ValueError("between is a low and a high end")
        if math.prod(map(len, self.each.values())) > MOST_COMPARISONS:
            raise ValueError(f"each is more than {MOST_COMPARISONS} comparisons")
        if self.share_of is not None and (self.metric is None or self.by == "ratio"):
            raise ValueError("share_of is of a metric, and compared by difference")
        if self.by == "ratio" and (self.against is None or self.exponent is not None):
            raise ValueError("a ratio is of a metric, and against something")
        return self

    @property
    def relation(self) -> Relation:
        """The one that is given."""
        return next(name for name in RELATIONS if getattr(self, name) is not None)

    @property
    def region(self) -> tuple[float, float]:
        """Where the effect has to lie."""
        if self.between is not None:
            return self.between
        if self.above is not None:
            return self.above, float("inf")
        assert self.below is not None
        return float("-inf"), self.below

    def holds(self, value: float) -> bool:
        """Whether a value is where the effect has to lie: above and below leave out the bound."""
        low, high = self.region
        return low <= value <= high if self.between is not None else low < value < high

    def one_by_one(self) -> Iterator[Evidence]:
        """Itself for each value of `each`, set in both patterns."""
        for values in itertools.product(*self.each.values()):
            more = dict(zip(self.each, values, strict=True))
            against = None if self.against is None else {**self.against, **more}
            yield self.model_copy(
                update={"group": {**self.group, **more}, "against": against, "each": {}}
            )

    @property
    def instrument(self) -> str | None:
        """The one that measures this; None: it comes of training, or of any run."""
        if self.exponent is not None:
            return "memory" if self.exponent == "memory" else "throughput"
        assert self.metric is not None
        return next(
            (
                name
                for name, pattern in INSTRUMENT_COLUMNS.items()
                if re.fullmatch(pattern, self.metric) or self.metric == f"{name}_missing"
            ),
            None,
        )


class Claim(Spec):
    """A statement, and the evidence that decides it."""

    name: Line
    says: Line
    source: Line | None = None
    evidence: list[Evidence] = Field(min_length=1)


class ClaimFile(Spec):
    """What a file of claims may hold."""

    claims: list[Claim] = Field(min_length=1)


def own_or_shipped(folder: Path) -> Path:
    """The claims of the study in a folder: its own, or else what textbooks say."""
    own = folder / FILE
    return own if own.exists() else SHIPPED


def read(path: Path, frame: pd.DataFrame) -> list[Claim]:
    """The claims of a file, for the rows of a tidy table.

    Raises:
        UserError: the file is missing, or says what no claim can be: a column that the table has
            not and no instrument writes, a key that no run has, a name that stands twice.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UserError(f"no claims at {path}: it does not exist") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read {path}: {error}") from None
    given = plain_yaml.parse(text, str(path))
    if not isinstance(given, Mapping):
        raise UserError(f"{path} has to be a mapping with the key claims")
    try:
        claims = ClaimFile.model_validate(given).claims
    except ValidationError as error:
        place = list(error.errors(include_url=False)[0]["loc"])
        where = f"{path}, line {plain_yaml.line_of(text, place)}"
        raise from_validation(error, where, _choices(place)) from None
    for place, problem in _problems(claims, frame):
        raise UserError(f"{path}, line {plain_yaml.line_of(text, place)}: {problem}")
    return claims


def _choices(place: list[str | int]) -> dict[str, list[str]]:
    """The valid keys of every section on the way to a place, by dotted path."""
    found = keys_of(ClaimFile)
    if len(place) > 1:
        found[f"claims.{place[1]}"] = list(Claim.model_fields)
    if len(place) > 3:
        found[f"claims.{place[1]}.evidence.{place[3]}"] = list(Evidence.model_fields)
    return found


def _problems(
    claims: Iterable[Claim], frame: pd.DataFrame
) -> Iterator[tuple[list[str | int], str]]:
    """What is wrong, with its place in the file."""
    known: set[str] = set()
    for i, claim in enumerate(claims):
        if claim.name in known:
            yield ["claims", i, "name"], f"the name {claim.name!r} stands twice"
        known.add(claim.name)
        for j, evidence in enumerate(claim.evidence):
            place: list[str | int] = ["claims", i, "evidence", j]
            if evidence.metric is not None and not _is_column(evidence.metric, frame):
                yield [*place, "metric"], str(unknown("column", evidence.metric, frame.columns))
            elif evidence.metric in frame and evidence.share_of is None:
                column = frame[evidence.metric]
                if column.notna().any() and not pd.api.types.is_numeric_dtype(column):
                    problem = (
                        f"the column {evidence.metric} holds words: give share_of, one of them"
                    )
                    yield [*place, "metric"], problem
            for part in ("group", "against", "each"):
                for key in getattr(evidence, part) or ():
                    if problem := _key_problem(key):
                        yield [*place, part, key], problem
            for part, kind, name in _names(evidence):
                if name not in (choices := _choices_of(kind, frame, name)):
                    yield [*place, part, kind], str(unknown(kind, name, choices))


def _names(evidence: Evidence) -> Iterator[tuple[str, Literal["architecture", "task"], str]]:
    """Every architecture and task that evidence names: the part of it, which, and the name."""
    kinds: tuple[Literal["architecture", "task"], ...] = ("architecture", "task")
    for part in ("group", "against", "each"):
        pattern = getattr(evidence, part) or {}
        for kind in kinds:
            given = pattern.get(kind)
            for value in given if isinstance(given, list) else [given]:
                name = value.get("name") if isinstance(value, Mapping) else value
                if name is not None:
                    yield part, kind, str(name)


def _choices_of(kind: Literal["architecture", "task"], frame: pd.DataFrame, name: str) -> set[str]:
    """What a study or this program calls so; the sources are only read if the study does not."""
    known = set(frame[kind]) | set(frame[f"{kind}_name"])
    if name in known:
        return known
    return known | _registered("architectures" if kind == "architecture" else "tasks")


@cache
def _registered(catalogue: plugins.Catalogue) -> frozenset[str]:
    """What a catalogue has; read from sources, once."""
    return frozenset({*listing.built_in(catalogue), *plugins.outside(catalogue)})


def _is_column(name: str, frame: pd.DataFrame) -> bool:
    if name in frame or name in (*COLUMNS, *METRICS):
        return True
    patterns = [*INSTRUMENT_COLUMNS.values(), RUN_COLUMNS]
    patterns += [f"{instrument}_missing" for instrument in INSTRUMENT_COLUMNS]
    if any(re.fullmatch(pattern, name) for pattern in patterns):
        return True
    nothing_scored = frame["test_score"].isna().all()
    return bool(nothing_scored) and re.fullmatch(OF_A_TASK, name) is not None


def _key_problem(key: str) -> str:
    section = key.partition(".")[0]
    if key in RUN_KEYS:
        return f"{key!r} is a section; name a key in it: {key}.{RUN_KEYS[key][0]}, ..."
    if key == PURPOSE or (section in ("architecture", "task") and "." in key):
        return ""
    if "." not in key and key not in RUN_KEYS[""]:
        return str(unknown("key", key, [*RUN_KEYS[""], PURPOSE]))
    try:
        check_key(key, "")
    except UserError as error:
        return str(error).removeprefix(": ")
    return ""


def flat(value: Any) -> str:
    """A value as flow YAML."""
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{flat(key)}: {flat(part)}' for key, part in value.items())}}}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(flat, value))}]"
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    if isinstance(value, str) and (value in WORDS or not re.fullmatch(BARE, value)):
        return json.dumps(value)
    return str(value)
