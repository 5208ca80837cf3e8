"""Attempts at Pathfinder's two contours succeed as often as in the published procedure."""

from __future__ import annotations

import math

import numpy as np
import pytest

import tasks.drawing.contours as contours
from tasks.drawing.segments import LOOKS, segments
from tasks.task import generator
from tests.pathfinder_published import Published

N_SLOW, N_BATCHES = 1500, 100
STANDARD_ERRORS = 4.0


@pytest.mark.slow
@pytest.mark.parametrize("side", [32, 64])
def test_attempts_succeed_as_often_as_published(side: int, monkeypatch: pytest.MonkeyPatch) -> None:
    slow = Published(LOOKS[side], 6, np.random.default_rng(side))
    expected = sum(slow.two_targets() is not None for _ in range(N_SLOW)) / N_SLOW
    n_good = 0
    grow = contours._grow

    def counted(*given: object) -> object:
        nonlocal n_good
        grown = grow(*given)  # type: ignore[arg-type]
        n_good += len(grown[0])
        return grown

    monkeypatch.setattr(contours, "_grow", counted)
    rng = generator("rates", side)
    for _ in range(N_BATCHES):
        contours._draw_targets(rng, segments(side, 1), 6)
    n = N_BATCHES * contours.ATTEMPTS[side]
    error = math.sqrt(expected * (1 - expected) * (1 / N_SLOW + 1 / n))
    assert abs(n_good / n - expected) < STANDARD_ERRORS * error
