"""The colours of architectures are told apart by those who see fewer colours, and on both themes.

The simulation is that of Machado et al. 2009, https://doi.org/10.1109/TVCG.2009.113, severity 1.
"""

from __future__ import annotations

from itertools import combinations, pairwise

import numpy as np
import pytest

from bench.report.palette import COLOURS, looks

SEEN = {
    "all colours": np.eye(3),
    "protanopia": np.array(
        [
            [0.152286, 1.052583, -0.204868],
            [0.114503, 0.786281, 0.099216],
            [-0.003882, -0.048116, 1.051998],
        ]
    ),
    "deuteranopia": np.array(
        [
            [0.367322, 0.860646, -0.227968],
            [0.280085, 0.672501, 0.047413],
            [-0.011820, 0.042940, 0.968881],
        ]
    ),
    "tritanopia": np.array(
        [
            [1.255528, -0.076749, -0.178779],
            [-0.078411, 0.930809, 0.147602],
            [0.004733, 0.691367, 0.303900],
        ]
    ),
}
TO_XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
WHITE = np.array([0.9505, 1.0, 1.089])
LEAST_DIFFERENCE = 10.0
"""CIE 1976, in which 2.3 is just noticeable; shapes tell apart too."""
LEAST_CONTRAST = 2.2  # of the background: lines and marks are large; text is never in these colours
PAPERS = ("#ffffff", "#16181c")


def linear(colour: str) -> np.ndarray:
    signs = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    return np.where(signs <= 0.04045, signs / 12.92, ((signs + 0.055) / 1.055) ** 2.4)


def lab(light: np.ndarray) -> np.ndarray:
    share = TO_XYZ @ np.clip(light, 0, 1) / WHITE
    f = np.where(share > 0.008856, np.cbrt(share), 7.787 * share + 16 / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


def difference(first: str, second: str, seen: np.ndarray) -> float:
    return float(np.linalg.norm(lab(seen @ linear(first)) - lab(seen @ linear(second))))


@pytest.mark.parametrize("sight", SEEN)
def test_no_two_colours_are_seen_as_one(sight: str) -> None:
    nearest = min(combinations(COLOURS, 2), key=lambda pair: difference(*pair, SEEN[sight]))
    assert difference(*nearest, SEEN[sight]) > LEAST_DIFFERENCE, nearest


def test_red_and_green_of_one_lightness_would_be_found() -> None:
    assert difference("#c05a3a", "#8a7a3a", SEEN["protanopia"]) < LEAST_DIFFERENCE
    assert difference("#c05a3a", "#8a7a3a", SEEN["all colours"]) > LEAST_DIFFERENCE


@pytest.mark.parametrize("paper", PAPERS)
def test_every_colour_stands_out_on_either_theme(paper: str) -> None:
    for colour in COLOURS:
        light, dark = sorted(
            (float(TO_XYZ[1] @ linear(one)) for one in (colour, paper)), reverse=True
        )
        assert (light + 0.05) / (dark + 0.05) > LEAST_CONTRAST, colour


def test_neighbours_differ_in_colour_and_in_shape() -> None:
    found = looks([f"architecture {n}" for n in range(12)])
    for one, other in combinations(found, 2):
        assert (one.colour, one.shape) != (other.colour, other.shape)
    for one, other in pairwise(found):
        assert one.colour != other.colour
        assert one.shape != other.shape
