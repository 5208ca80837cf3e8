"""What would decide an undecided comparison: commands, and lines for the study that was asked.

How many seeds would decide is known only if further ones are like those there are: then the
interval shrinks with their number, and its ends leave the bound.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from typing import Any

from bench.records.bootstrap import student
from bench.records.expected import MISSING
from bench.report.claim_effects import Effect, Group, chosen
from bench.report.claim_file import PURPOSE, Evidence, flat
from bench.spec import Run
from bench.study import STUDY_FILE, Study, over_base

FIRST_LENGTHS = (256, 512, 1024, 2048)
"""What an exponent begins with where the pattern names no lengths."""
INSTRUMENTS_KEY = "measure.instruments"
MOST_SEEDS = 20
"""More than anybody runs to decide a claim."""
N_INCLUDES = 60  # lines that a comparison asks for at most
FOR_GOOD = ("diverged", "unsupported")
"""How a run ends again whoever runs it again, as long as nothing else is changed."""


def remedies(
    evidence: Evidence, sides: Sequence[Group], found: Effect, study: Study
) -> Iterator[str]:
    """Lines for a terminal: what is missing, or else what ended badly, or else further runs."""
    statuses = [str(status) for side in sides for status in side.lines["status"]]
    if MISSING in statuses:
        yield f"run what is missing: bench sweep {study.folder}"
        return
    ended = sorted(set(statuses) - {"ok"})
    if ended and evidence.metric != "status":
        yield f"mend what ended badly: bench retry {study.folder} --only {','.join(ended)}"
        if again := [status for status in ended if status in FOR_GOOD]:
            yield f"{' and '.join(again)} ends so again, unless the code or the settings change"
        return
    if lacking := _without(evidence, sides):
        yield f"a row has no {evidence.metric}; it says why: bench show {lacking}"
        return
    n_seeds = _seeds_that_decide(evidence, found)
    if n_seeds is not None and n_seeds > MOST_SEEDS:
        yield (
            f"more than {MOST_SEEDS} seeds would be needed if further ones are like these: the "
            "effect is too near to what is asked"
        )
        return
    empty = [side for side in sides if side.lines.empty] or list(sides)
    found_includes = (
        include for side in empty for include in _includes(evidence, side, n_seeds, study)
    )
    includes = list(dict.fromkeys(itertools.islice(found_includes, N_INCLUDES)))
    if n_seeds is not None and includes:
        yield f"about {n_seeds} seeds would decide, if further ones are like these"
    if includes:
        yield f"add to {study.folder / STUDY_FILE}, then bench sweep {study.folder}:"
        yield "include:"
        yield from (f"  - {include}" for include in includes)
        if next(found_includes, None) is not None:
            yield "  # and more of these"


def _without(evidence: Evidence, sides: Sequence[Group]) -> str:
    """The id of a row that ended well and has no value; empty if there is none."""
    if evidence.metric is None:
        return ""
    for side in sides:
        lines = side.lines
        absent = lines[lines[evidence.metric].isna()] if evidence.metric in lines else lines
        if len(absent):
            return str(absent["id"].iloc[0])
    return ""


def _seeds_that_decide(evidence: Evidence, found: Effect) -> int | None:
    """How many seeds would move the interval off the bound that it reaches across.

    None: it is not the number of seeds that is wanting, or not known.
    """
    if found.value is None or found.low is None or found.high is None:
        return None
    if found.n < max(2, evidence.min_n) or evidence.exact or evidence.exponent is not None:
        return None
    allowed = min(
        abs(bound - found.value) / abs(end - found.value)
        for end in (found.low, found.high)
        for bound in evidence.region
        if min(end, found.value) <= bound <= max(end, found.value) and end != found.value
    )

    def half(n: int) -> float:
        return student(n - 1) / math.sqrt(n)

    least = found.n + 1
    while least <= MOST_SEEDS and half(least) >= allowed * half(found.n):
        least += 1
    return least


def _includes(evidence: Evidence, side: Group, n_seeds: int | None, study: Study) -> Iterator[str]:
    """Runs for a side that has none, or like those there are: as many as would decide, or again."""
    if side.lines.empty:
        yield from _of_pattern(evidence, side)
        return
    if evidence.exact and evidence.exponent is None:
        return  # what no noise moves is no clearer the second time
    runs = {run.id: run for run in study.runs}
    alike: dict[str, list[Run]] = {}
    for run_id in chosen(side.lines)["id"]:
        run = runs[str(run_id)]
        alike.setdefault(flat(_without_seed(study, run)), []).append(run)
    if evidence.exponent is not None:
        longest = max((group[0] for group in alike.values()), key=lambda run: run.length)
        yield flat({**over_base(study, longest), "length": 2 * longest.length})
        return
    for group in alike.values():
        seeds = {run.seed for run in group}
        more = n_seeds - len(seeds) if n_seeds is not None else max(evidence.min_n, len(seeds))
        first = max(seeds) + 1
        for seed in range(first, first + max(1, more)):
            yield flat({**_without_seed(study, group[0]), "seed": seed})


def _without_seed(study: Study, run: Run) -> dict[str, Any]:
    return {key: value for key, value in over_base(study, run).items() if key != "seed"}


def _of_pattern(evidence: Evidence, side: Group) -> Iterator[str]:
    """Runs that a pattern matches; what it does not say is the study's base."""
    pattern = {key: value for key, value in side.pattern.items() if not _is_default(key, value)}
    if evidence.instrument is not None:
        pattern |= {"training.steps": 0, "training.warmup_steps": 0}
        pattern[INSTRUMENTS_KEY] = [evidence.instrument]
    if evidence.exponent is not None:
        pattern["length"] = list(FIRST_LENGTHS)
    elif "seed" not in pattern:
        pattern["seed"] = list(range(1 if evidence.exact else evidence.min_n))
    axes = {k: v for k, v in pattern.items() if isinstance(v, list) and k != INSTRUMENTS_KEY}
    for values in itertools.product(*axes.values()):
        yield flat({**pattern, **dict(zip(axes, values, strict=True))})


def _is_default(key: str, value: Any) -> bool:
    """Whether a pattern's key is no key of a run, or asks that an option is not given."""
    of_choice = key.startswith(("architecture.", "task."))
    absent = value is None or (isinstance(value, list) and None in value)
    return key == PURPOSE or (of_choice and absent)
