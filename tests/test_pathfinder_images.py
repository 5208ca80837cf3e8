"""Pathfinder's fast generator draws from the distribution of the published procedure."""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import numpy as np
import pytest
from scipy import stats

from tasks.drawing.contours import Picture, draw_picture
from tasks.drawing.segments import DEGREES, LOOKS, segments
from tasks.task import generator
from tests.pathfinder_published import Drawn, Published

LEVEL = 1e-3
"""Of each test: about thirty of them, so that one seed in thirty would fail without a fault."""
COUNTS = {(32, 6): 300, (64, 6): 100, (128, 6): 100, (256, 6): 40, (32, 14): 60}
"""Images of the slow procedure, by side and contour length; of the fast one three times as many."""


@cache
def published(side: int, contour_length: int) -> list[Drawn]:
    rng = np.random.default_rng([side, contour_length])
    return [
        Published(LOOKS[side], contour_length, rng).draw()
        for _ in range(COUNTS[side, contour_length])
    ]


@cache
def fast(side: int, contour_length: int) -> list[Drawn]:
    n = 3 * COUNTS[side, contour_length]
    drawn = (draw_picture(generator("test", k), side, contour_length) for k in range(n))
    return [described(picture) for picture in drawn]


def described(picture: Picture) -> Drawn:
    """What the comparison looks at, from orientations and places."""
    tiles = segments(len(picture.pixels), picture.margin)
    made = Drawn(
        pixels=picture.pixels,
        label=picture.label,
        margin=picture.margin,
        n_attempts=picture.n_attempts,
        n_distractors=len(picture.distractors.places),
        markers=[tiles.pixels(np.array(place)).tolist() for place in picture.markers],
    )
    reach = tiles.look.segment + picture.margin
    for orientations, places in zip(
        picture.targets.orientations, picture.targets.places, strict=True
    ):
        pixels = tiles.pixels(places)
        made.boxes.append(int(np.ptp(pixels, axis=0).max()))
        tail, pivot = pixels[0], pixels[0] + tiles.pivots[orientations[0]]
        assert math.dist(tail, pivot) <= reach + 1
        angle = np.deg2rad(orientations[0] - 180.0)
        for head in pixels[1:]:
            stride = tiles.look.segment + 2 * picture.margin
            pivot = np.ceil(np.round(pivot + stride * np.array([np.sin(angle), np.cos(angle)]), 9))
            to = np.arctan2(*(head - pivot))
            made.turns.append(float(np.abs(np.angle(np.exp(1j * (to - angle))))))
            angle = to
    return made


def alike(of: Any, side: int, contour_length: int) -> float:
    """The p-value of a two-sample test on a number of each image."""
    a, b = ([of(x) for x in made(side, contour_length)] for made in (published, fast))
    return float(stats.ks_2samp(np.ravel(a), np.ravel(b)).pvalue)


NUMBERS = {
    "attempts": lambda x: x.n_attempts,
    "brightness": lambda x: x.pixels.mean(),
    "lit pixels": lambda x: (x.pixels > 40).sum(),
    "marker distance": lambda x: math.dist(*x.markers),
    "box": lambda x: x.boxes[0],
    "second box": lambda x: x.boxes[1],
    "turn": lambda x: x.turns[len(x.turns) // 4],
    "distractors": lambda x: x.n_distractors,
}


@pytest.mark.slow
@pytest.mark.timeout(1500)
@pytest.mark.parametrize(("side", "contour_length"), COUNTS)
def test_images_have_the_published_distribution(side: int, contour_length: int) -> None:
    found = {name: alike(of, side, contour_length) for name, of in NUMBERS.items()}
    a, b = (
        np.stack([x.pixels for x in made(side, contour_length)]).astype(float)
        for made in (published, fast)
    )
    # Mean images, in 16 fields: those of one image hang together, but images do not.
    fields = [
        x.reshape(len(x), 4, side // 4, 4, side // 4).mean((2, 4)).reshape(-1, 16) for x in (a, b)
    ]
    found["mean image"] = 16 * min(
        stats.ttest_ind(*pair, equal_var=False).pvalue
        for pair in zip(fields[0].T, fields[1].T, strict=True)
    )
    # Shares of grey values, compared image by image for the same reason.
    edges = [0, 1, 8, 64, 128, 192, 255, 256]
    shares = [np.stack([np.histogram(image, edges)[0] / image.size for image in x]) for x in (a, b)]
    used = [pair for pair in zip(shares[0].T, shares[1].T, strict=True) if np.ptp(pair[1])]
    found["grey values"] = len(used) * min(
        stats.ttest_ind(*pair, equal_var=False).pvalue for pair in used
    )
    labels = [[x.label for x in made(side, contour_length)] for made in (published, fast)]
    table = [[sum(x), len(x) - sum(x)] for x in labels]
    found["labels"] = float(stats.chi2_contingency(table).pvalue)
    assert min(found.values()) > LEVEL, found


def test_the_markers_are_on_one_contour_if_the_label_says_so() -> None:
    seen = set()
    for k in range(40):
        picture = draw_picture(generator("ends", k), 32, 6)
        begins, ends = picture.targets.places[:, 0], picture.targets.places[:, -1]
        origin, terminal = picture.markers
        one = [(a, b) for a, b in zip(begins.tolist(), ends.tolist(), strict=True)]
        assert ((origin, terminal) in one) == bool(picture.label)
        assert origin in begins
        assert terminal in ends
        seen.add((picture.label, begins.tolist().index(origin)))
    assert len(seen) == 4


@pytest.mark.parametrize(("side", "margin"), [(32, 1), (64, 1), (128, 2), (128, 3), (256, 3)])
def test_lines_and_masks_are_those_drawn_one_by_one(side: int, margin: int) -> None:
    tiles = segments(side, margin)
    slow = Published(LOOKS[side], 6, np.random.default_rng(0))
    slow.margin = margin
    for orientation in (0, 37, 90, 180, 271, 359):
        images = slow.stroke((side, side), [side // 2, 9], np.deg2rad(orientation - 180.0))
        place = int(tiles.flat(np.array([side // 2, 9])))
        for made, image in zip((tiles.lines, tiles.masks), images, strict=True):
            canvas = np.zeros((tiles.width, tiles.width), dtype=np.uint8)
            canvas.ravel()[place + made.places[orientation]] = made.values[orientation]
            inside = slice(tiles.border, -tiles.border)
            np.testing.assert_array_equal(canvas[inside, inside], np.round(image * 255))


def test_every_orientation_has_weights_and_a_straight_way_on() -> None:
    for side, look in LOOKS.items():
        for margin in look.margins:
            tiles = segments(side, margin)
            assert (tiles.weights.max(axis=1) > 0.5).all()
            assert len(tiles.weights) > DEGREES
            assert (tiles.chosen >= DEGREES).all()
