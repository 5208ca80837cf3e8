"""When two speeds differ, by the noise of the machine that they were measured on.

A ratio of two speeds is a difference if it is at least LEAST_RATIO, and its excess over 1 at least
GAPS times that of the noise floor: the ratio of one cell to itself, timed as if it were two. All
below prints as no difference. Where the two were measured in two sessions, the ratio has to
be as much again beyond the drift of the machine: the ratio of the times of one reference work,
which every session times beside its cells.
"""

from __future__ import annotations

from collections.abc import Iterable

from bench.records.markdown import finite

LEAST_RATIO = 1.1
"""No smaller ratio is a difference, however quiet the machine was while it was measured."""
GAPS = 3.0
"""How many times the gap between a cell and itself a gap between cells has to be."""


def least_ratio(noise_floors: Iterable[object], references_ms: Iterable[object] = ()) -> float:
    """The smallest ratio that is a difference, by the worst of the noise floors and the drift.

    A noise floor that is not known counts as 1.
    """
    worst = max((floor for one in noise_floors if (floor := finite(one)) is not None), default=1.0)
    return max(LEAST_RATIO, 1.0 + GAPS * (worst - 1.0)) * drift(references_ms)


def drift(references_ms: Iterable[object]) -> float:
    """How much slower the machine was in one session than in another; 1 where nobody knows.

    Only of sessions of one machine: two machines do not drift, they differ.
    """
    known = [one for value in references_ms if (one := finite(value)) is not None and one > 0]
    return max(known) / min(known) if known else 1.0


def differ(
    first: float,
    second: float,
    noise_floors: Iterable[object],
    references_ms: Iterable[object] = (),
) -> bool:
    """Whether two speeds, or two times, are different."""
    return max(first, second) / min(first, second) >= least_ratio(noise_floors, references_ms)
