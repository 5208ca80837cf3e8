"""`bench reproduction`: a study against the paper that its `reproduces` names."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def reproduction(
    study: Annotated[Path, typer.Argument(metavar="STUDY", help="a folder with a study.yaml")],
) -> None:
    """Print measured against published: gap, interval, number of seeds and a verdict."""
    from bench.records.expected import complete
    from bench.records.store import Store
    from bench.report import published
    from bench.report.reproduction import cards, render
    from bench.study import load

    loaded = load(study)
    frame = complete(loaded, Store(loaded.folder))
    print(render(loaded, cards(loaded, frame, published.read())), end="")
