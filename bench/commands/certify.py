"""`bench certify`: architectures held to the laws, as text, JSON or the page of architectures."""

from __future__ import annotations

import enum
import sys
from typing import Annotated

import typer

from bench.errors import UserError


class CertificateFormat(enum.StrEnum):
    """How certificates are written."""

    text = "text"
    md = "md"
    json = "json"


class Precision(enum.StrEnum):
    """In which numbers laws are tried."""

    float64 = "float64"
    float32 = "float32"


class Device(enum.StrEnum):
    """Where laws are tried."""

    cpu = "cpu"
    cuda = "cuda"


def certify(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[NAME]...",
            help="architectures; default: all, or with --format md those of seqbench itself",
        ),
    ] = None,
    dtype: Annotated[Precision, typer.Option()] = Precision.float64,
    device: Annotated[Device, typer.Option()] = Device.cpu,
    format_: Annotated[CertificateFormat, typer.Option("--format", "-f")] = CertificateFormat.text,
    thorough: Annotated[
        bool, typer.Option("--thorough", help="also torch.compile, and streams of 100000 steps")
    ] = False,
) -> None:
    """Hold architectures to every law: a line each, and exit code 1 if one is broken.

    So it is if another package registers an architecture that cannot be used.
    """
    import torch

    from bench.certify import report as certificates
    from bench.listing import built_in

    if device is Device.cuda and not torch.cuda.is_available():
        raise UserError("no CUDA device here; choices: cpu")
    torch.set_num_threads(1)  # more threads would wait for each other at every tiny operation
    problems: list[str] = []
    if names:
        asked = list(dict.fromkeys(names))
    elif format_ is CertificateFormat.md:  # the page that is committed
        asked = list(built_in("architectures"))
    else:
        asked, problems = certificates.registered()
    for problem in problems:
        print(f"bench: {problem}", file=sys.stderr)
    found, kernels = {}, {}
    tried, on = getattr(torch, dtype.value), torch.device(device.value)
    for name, findings in certificates.certificates(
        asked, dtype=tried, device=on, thorough=thorough
    ):
        found[name] = findings
        # The page says what runs are trained with; lines and JSON what the laws were tried on.
        numbers = torch.float32 if format_ is CertificateFormat.md else tried
        kernels[name] = certificates.kernel(name, dtype=numbers, device=on)
        if format_ is CertificateFormat.text:
            print(certificates.lines(name, kernels[name], findings), flush=True)
    if format_ is CertificateFormat.md:
        print(certificates.as_markdown(found, kernels))
    elif format_ is CertificateFormat.json:
        print(certificates.as_json(found, kernels))
    holds = all(finding.holds for findings in found.values() for finding in findings)
    if problems or not holds:
        raise typer.Exit(1)
