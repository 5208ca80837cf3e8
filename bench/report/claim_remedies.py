"""What would decide an undecided comparison: commands, and lines for the study that was asked."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

from bench.records.expected import MISSING
from bench.report.claim_effects import Group
from bench.report.claim_file import PURPOSE, Evidence, flat
from bench.study import STUDY_FILE, Study

FIRST_LENGTHS = (256, 512, 1024, 2048)
"""What an exponent begins with where the pattern names no lengths."""
INSTRUMENTS_KEY = "measure.instruments"


def remedies(evidence: Evidence, sides: Sequence[Group], study: Study) -> Iterator[str]:
    """Lines for a terminal: what is missing, or else what ended badly, or else further runs."""
    statuses = [str(status) for side in sides for status in side.lines["status"]]
    if MISSING in statuses:
        yield f"run what is missing: bench sweep {study.folder}"
        return
    ended = sorted(set(statuses) - {"ok"})
    if ended and evidence.metric != "status":
        yield f"mend what ended badly: bench retry {study.folder} --only {','.join(ended)}"
        return
    lacking = [side for side in sides if side.lines.empty] or list(sides)
    includes = [include for side in lacking for include in _includes(evidence, side)]
    if includes:
        yield f"add to {study.folder / STUDY_FILE}, then bench sweep {study.folder}:"
        yield "include:"
        yield from (f"  - {include}" for include in dict.fromkeys(includes))


def _includes(evidence: Evidence, side: Group) -> Iterator[str]:
    """Runs for a side that has none, or as many again."""
    pattern = {key: value for key, value in side.pattern.items() if not _is_default(key, value)}
    if evidence.instrument is not None:
        pattern |= {"training.steps": 0, "training.warmup_steps": 0}
        pattern[INSTRUMENTS_KEY] = [evidence.instrument]
    if evidence.exponent is not None:
        known = [int(length) for length in side.lines["length"]]
        pattern["length"] = [2 * max(known)] if known else list(FIRST_LENGTHS)
    elif evidence.exact and not side.lines.empty:
        return  # what no noise moves is no clearer the second time
    elif "seed" not in pattern:
        seeds = {int(seed) for seed in side.lines["seed"]}
        least = 1 if evidence.exact else evidence.min_n
        first = max(seeds, default=-1) + 1
        pattern["seed"] = list(range(first, first + max(least, len(seeds))))
    axes = {k: v for k, v in pattern.items() if isinstance(v, list) and k != INSTRUMENTS_KEY}
    for values in itertools.product(*axes.values()):
        yield flat({**pattern, **dict(zip(axes, values, strict=True))})


def _is_default(key: str, value: Any) -> bool:
    """Whether a pattern's key is no key of a run, or asks that an option is not given."""
    of_choice = key.startswith(("architecture.", "task."))
    absent = value is None or (isinstance(value, list) and None in value)
    return key == PURPOSE or (of_choice and absent)
