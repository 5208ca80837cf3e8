"""Certificates of whole catalogues: run, and written as lines, as Markdown or as JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch

from bench.catalogue import body_class, body_options, make_body
from bench.certify.finding import Finding
from bench.certify.laws import LAWS, THOROUGH_LAWS, certified_width, certify
from bench.errors import UserError
from bench.listing import built_in, descriptions
from bench.plugins import one_line, outside
from bench.spec import Choice

# An error this far below its bound is only said to be so: its last bits are the machine's.
MARGIN = 100.0
COMMAND = "bench certify --format md > architectures/README.md"


def registered() -> tuple[list[str], list[str]]:
    """The architectures that can be used, and what keeps others from it: a line each."""
    usable, problems = [], []
    for name in dict.fromkeys([*built_in("architectures"), *outside("architectures")]):
        try:
            _width(name)  # also resolves the names of the bodies inside
            usable.append(name)
        except UserError as error:
            problems.append(f"{name}: {error}")
    return usable, problems


def certificates(
    names: Sequence[str], *, dtype: torch.dtype, device: torch.device, thorough: bool = False
) -> Iterator[tuple[str, list[Finding]]]:
    """Every architecture named, with its default options, and what each law found.

    Raises:
        UserError: a name that is not registered, before any law runs.
    """
    for name in names:
        body_class(name)
    laws = THOROUGH_LAWS if thorough else LAWS
    for name in names:
        choice = Choice(name=name)
        yield name, _certificate(choice, _width(name), dtype, device, laws)


def _width(name: str) -> int:
    return certified_width(body_class(name), **body_options(Choice(name=name)))


def _certificate(
    choice: Choice,
    width: int,
    dtype: torch.dtype,
    device: torch.device,
    laws: Mapping[str, Any],
) -> list[Finding]:
    return certify(
        choice.name, lambda: make_body(choice, width), dtype=dtype, device=device, laws=laws
    )


def kernel(name: str, *, dtype: torch.dtype, device: torch.device) -> str:
    """What an architecture runs on, found by running it."""
    try:
        return make_body(Choice(name=name), _width(name)).to(device=device, dtype=dtype).kernel
    except Exception as error:  # a body of anyone's may raise anything
        return f"none: {one_line(error)}"


def lines(name: str, kernel: str, findings: Sequence[Finding]) -> str:
    """The kernel, and a line for each law: the verdict, the largest error and its bound."""
    return f"{name:20} {'kernel':34} {kernel}\n" + "\n".join(
        f"{name:20} {finding.law:34} {'holds' if finding.holds else 'BROKEN':6} "
        f"{finding.error:8.1e} <= {finding.bound:7.1e}  {finding.detail}".rstrip()
        for finding in findings
    )


def as_json(found: Mapping[str, Sequence[Finding]], kernels: Mapping[str, str]) -> str:
    """A list with one object for each architecture and law; an infinite or NaN error is null."""
    entries = [
        {
            "architecture": name,
            "kernel": kernels[name],
            "law": finding.law,
            "holds": finding.holds,
            "error": finding.error if math.isfinite(finding.error) else None,
            "bound": finding.bound,
            "detail": finding.detail,
        }
        for name, findings in found.items()
        for finding in findings
    ]
    return json.dumps(entries, indent=1)


def as_markdown(found: Mapping[str, Sequence[Finding]], kernels: Mapping[str, str]) -> str:
    """The page architectures/README.md: the same on any machine with the same laws and kernels."""
    said = descriptions("architectures")
    laws = list(dict.fromkeys(f.law for findings in found.values() for f in findings))
    out = [
        "# Architectures",
        "",
        f"Written by `{COMMAND}`; do not edit. The laws are functions in `bench/certify/`, and "
        "the tests call the same.",
        "",
        "| architecture | what it is | kernel | laws kept |",
        "|---|---|---|---|",
    ]
    for name, findings in found.items():
        kept = sum(finding.holds for finding in findings)
        broken = "".join(f", broken: `{f.law}`" for f in findings if not f.holds)
        verdict = f"{kept} of {len(findings)}{broken}"
        out.append(f"| `{name}` | {said[name]} | {kernels[name]} | {verdict} |")
    out += ["", "| law | what it says | largest error | bound |", "|---|---|---|---|"]
    for law in laws:
        of_law = [f for findings in found.values() for f in findings if f.law == law]
        bound = max(finding.bound for finding in of_law)
        out.append(f"| `{law}` | {_says(law)} | {rounded(of_law)} | {_number(bound)} |")
    out += [
        "",
        "Kernels are those of a CPU with a C compiler, in float32, without autocast; `bench "
        "doctor` says what runs on yours.",
        "",
        "Errors are relative to the largest value. Of those that keep a bound it is only said "
        "whether they do so a hundred times over; the rest is the machine's. A bound of 0 means "
        "equal.",
    ]
    return "\n".join(out)


def rounded(findings: Sequence[Finding]) -> str:
    """The largest error of one law over all bodies: a level below the bound, or a power of ten."""
    errors = [finding.error for finding in findings]
    if any(math.isnan(error) for error in errors):
        return "nan"
    error, bound = max(errors), max(finding.bound for finding in findings)
    if error == 0.0 or math.isinf(error):
        return _number(error)
    if error <= bound / MARGIN:
        return f"<= {_number(bound / MARGIN)}"
    if error <= bound:
        return f"<= {_number(bound)}"
    return f"<= {_number(10.0 ** math.ceil(math.log10(error)))}"


def _says(law: str) -> str:
    return (getattr(THOROUGH_LAWS[law], "func", THOROUGH_LAWS[law]).__doc__ or "").partition("\n")[
        0
    ]


def _number(value: float) -> str:
    return f"{value:.0e}" if value and f"{value:.0e}"[0] != "0" else "0"
