"""Claims: statements held against the rows of a study, each supported, refuted or undecided.

An effect supports what is said if its whole 95% interval lies where the evidence asks for, refutes
it if the whole interval lies elsewhere, and otherwise decides nothing. A claim is supported if all
of its evidence is, refuted if any is, and otherwise undecided, with the runs that would decide.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import pandas as pd

from bench.records.markdown import between, escape, number
from bench.report.claim_effects import Asked, Effect, effect
from bench.report.claim_file import Claim, Evidence, flat
from bench.report.claim_remedies import remedies
from bench.report.document import Table
from bench.report.document import as_markdown as written
from bench.study import Study

Verdict: TypeAlias = Literal["supported", "refuted", "undecided"]
VERDICTS: tuple[Verdict, ...] = ("supported", "refuted", "undecided")
N_SHOWN_ROWS = 4
HEADINGS = ("comparison", "asked", "effect [95% interval]", "n", "verdict", "rows")
LEGEND = """\
Supported: the whole 95% interval lies where the comparison asks; refuted: the whole interval \
lies elsewhere; undecided: neither, or too few rows. A claim needs all of its comparisons. What \
rows say holds for these tasks, sizes and budgets.
"""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What became of one comparison."""

    evidence: Evidence
    effect: Effect
    verdict: Verdict
    why: str  # empty unless undecided
    asked: bool  # whether the study's own runs have an effect, or may have when they have ended
    remedies: tuple[str, ...]  # lines that say what would decide


@dataclass(frozen=True, kw_only=True)
class Judged:
    """A claim and its verdict."""

    claim: Claim
    findings: tuple[Finding, ...]

    @property
    def asked(self) -> bool:
        """Whether the study is about it: none of its evidence asks for other runs."""
        return all(finding.asked for finding in self.findings)

    @property
    def verdict(self) -> Verdict:
        """Of all its evidence together."""
        found = {finding.verdict for finding in self.findings}
        return next(
            (verdict for verdict in ("refuted", "undecided") if verdict in found), "supported"
        )


def judge(claims: Sequence[Claim], study: Study, frame: pd.DataFrame) -> list[Judged]:
    """Hold every claim against the tidy table of a study, missing runs included."""
    asked = Asked(study, frame)
    return [
        Judged(
            claim=claim,
            findings=tuple(
                _finding(one, study, asked)
                for evidence in claim.evidence
                for one in evidence.one_by_one()
            ),
        )
        for claim in claims
    ]


def _finding(evidence: Evidence, study: Study, asked: Asked) -> Finding:
    group = asked.group(evidence.group, evidence)
    against = None if evidence.against is None else asked.group(evidence.against, evidence)
    sides = [group] if against is None else [group, against]
    found = effect(evidence, group, against)
    unfinished = any((side.lines["status"] != "ok").any() for side in sides)
    verdict, why = _verdict(evidence, found)
    return Finding(
        evidence=evidence,
        effect=found,
        verdict=verdict,
        why=why,
        asked=not any(side.lines.empty for side in sides) and (found.n > 0 or unfinished),
        remedies=tuple(remedies(evidence, sides, found, study)) if verdict == "undecided" else (),
    )


def _verdict(evidence: Evidence, found: Effect) -> tuple[Verdict, str]:
    if found.missing:
        return "undecided", found.missing
    least = 1 if evidence.exact else evidence.min_n
    if found.n < least:
        return "undecided", f"{found.n} of the {least} that are needed"
    if found.low is None or found.high is None:
        return "undecided", "one row, which has no interval of its own"
    ends = (found.low, found.high)
    inside = [evidence.holds(end) for end in ends]
    if all(inside):
        return "supported", ""
    low, high = evidence.region
    if not any(inside) and (found.high <= low or found.low >= high):
        return "refuted", ""
    return "undecided", "the interval reaches across"


def as_text(judged: Sequence[Judged]) -> str:
    """For the terminal: a paragraph for each claim."""
    parts = []
    for one in judged:
        lines = [f"{one.verdict:9}  {one.claim.says}"]
        for finding in one.findings:
            verdict = finding.verdict + (f": {finding.why}" if finding.why else "")
            told = f"{comparison(finding.evidence)}, {_asked(finding.evidence)}"
            lines.append(f"    {told}: {_effect(finding)}n {finding.effect.n}, {verdict}")
            lines += [f"      rows {_row_names(finding)}"] if finding.effect.rows else []
        lines += [f"    {line}" for line in remedies_of(one)]
        parts.append("\n".join(lines))
    return "\n\n".join([*parts, tally(judged)])


def as_markdown(judged: Sequence[Judged]) -> str:
    """A section for a README."""
    parts = ["## Claims\n", LEGEND]
    for one in judged:
        source = f" ({escape(one.claim.source)})" if one.claim.source else ""
        parts.append(f"### {one.verdict.capitalize()}: {escape(one.claim.says)}{source}\n")
        parts.append(written([table_of(one)]))
        if told := remedies_of(one):
            parts.append("```\n{}\n```\n".format("\n".join(told).replace("```", "` ` `")))
    return "\n".join([*parts, tally(judged)])


def table_of(one: Judged) -> Table:
    """A line for each comparison of a claim."""
    lines = [
        [
            comparison(finding.evidence),
            _asked(finding.evidence),
            _effect(finding).removesuffix(", "),
            str(finding.effect.n),
            finding.verdict + (f": {finding.why}" if finding.why else ""),
            _row_names(finding),
        ]
        for finding in one.findings
    ]
    return Table(HEADINGS, lines, frozenset((3,)))


def as_json(judged: Sequence[Judged]) -> str:
    """Everything, every row id too."""
    data = [
        {
            "name": one.claim.name,
            "says": one.claim.says,
            "source": one.claim.source,
            "verdict": one.verdict,
            "evidence": [_record(finding) for finding in one.findings],
        }
        for one in judged
    ]
    return f"{json.dumps(data, indent=1, allow_nan=False)}\n"


def comparison(evidence: Evidence) -> str:
    """`test_score: {architecture: lstm} less {architecture: rnn}, both {length: 128}`."""
    if evidence.exponent is not None:
        what = f"exponent of {evidence.exponent} in length"
    elif evidence.share_of is not None:
        what = f"share of {evidence.metric} {evidence.share_of}"
    else:
        what = str(evidence.metric)
    if evidence.against is None:
        return f"{what}: {flat(evidence.group)}"
    shared = dict(item for item in evidence.group.items() if item in evidence.against.items())
    one, other = (
        flat({key: value for key, value in side.items() if key not in shared})
        for side in (evidence.group, evidence.against)
    )
    word = "over" if evidence.by == "ratio" else "less"
    both = f", both {flat(shared)}" if shared else ""
    return f"{what}: {one} {word} {other}{both}"


def _record(finding: Finding) -> dict[str, Any]:
    found = finding.effect
    return {
        "comparison": comparison(finding.evidence),
        "asked": _asked(finding.evidence),
        "effect": found.value,
        "low": found.low,
        "high": found.high,
        "n": found.n,
        "verdict": finding.verdict,
        "why": finding.why,
        "rows": list(found.rows),
        "would_decide": list(finding.remedies),
    }


def _asked(evidence: Evidence) -> str:
    if evidence.between is not None:
        return f"between {evidence.between[0]:g} and {evidence.between[1]:g}"
    return f"{evidence.relation} {getattr(evidence, evidence.relation):g}"


def _effect(finding: Finding) -> str:
    found = finding.effect
    if found.value is None:
        return ""
    return f"{between(number(found.value), number(found.low), number(found.high))}, "


def _row_names(finding: Finding) -> str:
    rows = finding.effect.rows
    more = len(rows) - N_SHOWN_ROWS
    return " ".join(rows[:N_SHOWN_ROWS]) + (f" and {more} more" if more > 0 else "")


def remedies_of(one: Judged) -> list[str]:
    """What would decide a claim: lines of all its undecided comparisons, each once."""
    if one.verdict != "undecided":
        return []
    return list(dict.fromkeys(line for finding in one.findings for line in finding.remedies))


def tally(judged: Sequence[Judged]) -> str:
    """`11 claims: 9 supported, 1 refuted, 1 undecided`."""
    counts = {verdict: sum(one.verdict == verdict for one in judged) for verdict in VERDICTS}
    many = "claim" if len(judged) == 1 else "claims"
    return f"{len(judged)} {many}: " + ", ".join(f"{n} {name}" for name, n in counts.items()) + "\n"
