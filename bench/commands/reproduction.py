"""`bench reproduction`: a study against the paper that its `reproduces` names."""

from __future__ import annotations

from bench.commands.shared import StudyArgument, open_study


def reproduction(
    study: StudyArgument,
) -> None:
    """Print measured against published: gap, interval, number of seeds and a verdict."""
    from bench.records.expected import complete
    from bench.report import published
    from bench.report.reproduction import cards, render

    loaded, store = open_study(study)
    frame = complete(loaded, store)
    print(render(loaded, cards(loaded, frame, published.read())), end="")
