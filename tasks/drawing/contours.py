"""Pathfinder images: two contours with a marker each, or one with both, among distractors.

Linsley et al. 2018, https://arxiv.org/abs/1805.08315, and drewlinsley/pathfinder at commit ab9c130,
snakes2.py and snakes.py, with the options of google-research/long-range-arena
lra_benchmarks/data/pathfinder.py. Same distribution, other order of draws: attempts are independent
and most fail, so that many are made side by side, and the first to succeed is taken.

A attempts, S contours of an attempt, W the width of the picture with its border.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from tasks.drawing.segments import (
    DEGREES,
    LOOKS,
    SCALE,
    SOLID,
    Bytes,
    Integers,
    Look,
    Reals,
    Segments,
    Tiles,
    segments,
)

T = TypeVar("T", bound=np.generic)

SEGMENT_TRIES = 3
DISTRACTOR_TRIES = 5
OVERLAP = 459
"""Two masks may not add up to this anywhere: 1.8 of 255."""
OCCUPIED = 77
"""A mask from here on, above 0.3 of 255, takes a pixel from first segments."""
FEWEST_FREE = 0.01
"""Of the pixels: with fewer, no distractor is begun."""
LEAST_WEIGHT = 1e-4
"""Of all heads that could follow: with less, the contour cannot go on."""
ATTEMPTS = {32: 96, 64: 512, 128: 192, 256: 16}
"""Made side by side, by the side of the image; one in 43, 1,100, 360 and 8 succeeds."""


@dataclass(frozen=True)
class Contours:
    """Contours of equal numbers of segments n, by orientations and places (S, n)."""

    orientations: Integers
    places: Integers  # of the tail of the first segment, and of the heads of the others


@dataclass(frozen=True)
class Picture:
    """An image and what it was made of."""

    pixels: Bytes  # (side, side)
    label: int  # 1: the markers are at the ends of one contour
    margin: int
    targets: Contours
    distractors: Contours
    markers: tuple[int, int]  # their places in the flat picture
    n_attempts: int  # to draw both targets, until one succeeded


@dataclass
class _Field:
    """What attempts have taken: masks (A, W * W), and the same dilated by the margin."""

    masks: Bytes
    reaches: Bytes

    def take(self, tiles: Segments, orientations: Integers, places: Integers) -> None:
        """Keep a segment of each attempt free of others."""
        _brighten(self.masks, tiles.masks, orientations, places)
        _brighten(self.reaches, tiles.reaches, orientations, places)

    def only(self, rows: NDArray[np.intp] | NDArray[np.bool_]) -> _Field:
        """The field of some attempts."""
        return _Field(self.masks[rows], self.reaches[rows])


def draw_picture(rng: torch.Generator, side: int, contour_length: int) -> Picture:
    """Draw an image of the published distribution."""
    look = LOOKS[side]
    label, margin = _integers(rng, 2), look.margins[_integers(rng, len(look.margins))]
    tiles = segments(side, margin)
    n_attempts = 0
    while True:
        field, targets, which = _draw_targets(rng, tiles, contour_length)
        if targets is not None:
            break
        n_attempts += ATTEMPTS[side]
    distractors = _draw_distractors(rng, tiles, field, contour_length // 3)
    origin = _integers(rng, 2)
    terminal = origin if label else 1 - origin
    markers = (int(targets.places[origin, 0]), int(targets.places[terminal, -1]))
    return Picture(
        pixels=_render(tiles, targets, distractors, markers),
        label=label,
        margin=margin,
        targets=targets,
        distractors=distractors,
        markers=markers,
        n_attempts=n_attempts + which + 1,
    )


def _draw_targets(
    rng: torch.Generator, tiles: Segments, contour_length: int
) -> tuple[_Field, Contours | None, int]:
    """Attempt to draw both targets many times.

    Returns:
        What the first success has taken, its contours, None without one, and its number.
    """
    first, tails, begun = _first_seeds(rng, tiles)
    second, others, both = _second_seeds(rng, tiles, tails)
    alive = np.flatnonzero(begun & both)
    orientations = np.stack([first, second], axis=1)[alive]  # (A, 2)
    places = tiles.flat(np.stack([tails, others], axis=1)[alive])  # (A, 2)
    field = _empty(tiles, len(alive))
    rows, contours = _grow(rng, tiles, field, orientations, places, contour_length)
    if not len(rows):
        return field, None, 0
    targets = Contours(contours.orientations[0], contours.places[0])
    field = field.only(rows[:1])
    # Of the last segments the published code keeps only the second contour's free.
    field.take(tiles, targets.orientations[1:, -1], targets.places[1:, -1])
    return field, targets, int(alive[rows[0]])


def _first_seeds(
    rng: torch.Generator, tiles: Segments
) -> tuple[Integers, Integers, NDArray[np.bool_]]:
    """Orientation and tail (row, column) of the first target of each attempt, and whether found."""
    n = ATTEMPTS[tiles.look.side]
    orientations, tails = np.zeros(n, dtype=np.int64), np.zeros((n, 2), dtype=np.int64)
    found, alive = np.zeros(n, dtype=bool), np.ones(n, dtype=bool)
    free = _first_tails(tiles.look.side, tiles.margin)
    for _ in range(SEGMENT_TRIES):
        left = np.flatnonzero(alive & ~found)
        orientations[left] = _integers_of(rng, DEGREES, len(left))
        share = _uniform(rng, len(left))
        for attempt, part in zip(left, share, strict=True):
            places = free[orientations[attempt]]
            alive[attempt] = len(places) > 0
            if alive[attempt]:
                tails[attempt] = tiles.pixels(places[int(part * len(places))])
        found[left] = alive[left] & tiles.begins_inside(tails[left], orientations[left])
    return orientations, tails, found


def _second_seeds(
    rng: torch.Generator, tiles: Segments, tails: Integers
) -> tuple[Integers, Integers, NDArray[np.bool_]]:
    """Orientation and tail of the second target of each attempt, at a distance from the first."""
    n, found = len(tails), np.zeros(len(tails), dtype=bool)
    orientations, others = np.zeros(n, dtype=np.int64), np.zeros_like(tails)
    for _ in range(SEGMENT_TRIES):
        left = np.flatnonzero(~found)
        orientations[left] = _integers_of(rng, DEGREES, len(left))
        angles = np.deg2rad(_integers_of(rng, 360, len(left)))
        away = tiles.look.seed_distance * np.stack([np.sin(angles), np.cos(angles)], axis=1)
        others[left] = np.rint(tails[left] + away).astype(np.int64)
        found[left] = tiles.begins_inside(others[left], orientations[left])
    return orientations, others, found


def _draw_distractors(
    rng: torch.Generator, tiles: Segments, field: _Field, n_segments: int
) -> Contours:
    """Draw as many distractors as find room, one after another."""
    orientations, places = [], []
    for _ in range(tiles.look.n_distractors):
        begun = [_begin(rng, tiles, field.masks[0]) for _ in range(DISTRACTOR_TRIES)]
        seeds = np.array([seed for seed in begun if seed is not None], dtype=np.int64)
        if not len(seeds):
            continue
        tried = field.only(np.zeros(len(seeds), dtype=np.intp))
        rows, contours = _grow(rng, tiles, tried, seeds[:, :1], seeds[:, 1:], n_segments)
        if len(rows):
            field.masks, field.reaches = tried.masks[rows[:1]], tried.reaches[rows[:1]]
            field.take(tiles, contours.orientations[0, :, -1], contours.places[0, :, -1])
            orientations.append(contours.orientations[0])
            places.append(contours.places[0])
    none = np.zeros((0, n_segments), dtype=np.int64)
    return Contours(np.concatenate([none, *orientations]), np.concatenate([none, *places]))


def _begin(rng: torch.Generator, tiles: Segments, mask: Bytes) -> tuple[int, int] | None:
    """Orientation and tail of a first segment where a mask (W * W,) has room, if any is found."""
    taken = _square(tiles, mask) >= OCCUPIED
    if 1 - taken.mean() < FEWEST_FREE:
        return None
    taken[[0, -1]] = taken[:, [0, -1]] = True
    for _ in range(SEGMENT_TRIES):
        orientation = _integers(rng, DEGREES)
        free = _free(tiles, taken, orientation)
        if not len(free):
            return None
        tail = int(free[_integers(rng, len(free))])
        if tiles.begins_inside(tiles.pixels(np.array(tail)), np.array(orientation)):
            return orientation, tail
    return None


def _grow(
    rng: torch.Generator,
    tiles: Segments,
    field: _Field,
    orientations: Integers,
    places: Integers,
    n_segments: int,
) -> tuple[NDArray[np.intp], Contours]:
    """Let the contours that begin with orientations and places (A, S) grow, in turn.

    A segment is taken out of the field when the next one of its contour is placed.

    Returns:
        The attempts of which all contours came to n segments, and those contours (a, S, n). The
        field has room for these attempts as they left it, but for their last segments.
    """
    rows = np.arange(len(places))
    kept = [(orientations, places)]
    behind = tiles.pivots[orientations]  # (A, S, 2)
    pivots = places + behind[..., 0] * tiles.width + behind[..., 1]  # (A, S)
    current = field
    for _ in range(n_segments - 1):
        orientations, places = orientations.copy(), places.copy()
        for contour in range(places.shape[1]):
            last, last_place = orientations[:, contour], places[:, contour]
            pivot = pivots[:, contour] + tiles.steps[last]
            orientation, place, found = _extend(rng, tiles, current, last, pivot)
            good = np.flatnonzero(found)
            if len(good) < len(found):
                rows, pivots, current = rows[good], pivots[good], current.only(good)
                orientations, places = orientations[good], places[good]
                kept = [(a[good], b[good]) for a, b in kept]
            if not len(rows):
                break
            current.take(tiles, last[good], last_place[good])
            orientations[:, contour], places[:, contour] = orientation[good], place[good]
            pivots[:, contour] = pivot[good]
        if not len(rows):
            break
        kept.append((orientations, places))
    if len(rows) and current is not field:
        field.masks[rows], field.reaches[rows] = current.masks, current.reaches
    a, b = (np.stack([part[k] for part in kept], axis=2) for k in (0, 1))
    return rows, Contours(a, b)


def _extend(
    rng: torch.Generator, tiles: Segments, field: _Field, last: Integers, pivots: Integers
) -> tuple[Integers, Integers, NDArray[np.bool_]]:
    """Draw the next segment of one contour of each attempt: orientation, place, whether found."""
    row = np.arange(len(pivots))
    heads = pivots[:, None] + tiles.circle[last]  # (A, K)
    free = SOLID - field.reaches[row[:, None], heads]  # (A, K)
    likely = (free * tiles.weights[last]).cumsum(axis=1)  # (A, K)
    alive = likely[:, -1] >= LEAST_WEIGHT * SOLID
    draws = _uniform(rng, SEGMENT_TRIES, len(pivots)) * likely[:, -1]
    orientations, places = np.zeros_like(last), np.zeros_like(last)
    found = np.zeros(len(row), dtype=bool)
    for draw in draws:
        left = np.flatnonzero(alive & ~found)
        if not len(left):
            break
        drawn = (likely[left] <= draw[left, None]).sum(axis=1).clip(max=likely.shape[1] - 1)
        orientations[left] = tiles.chosen[last[left], drawn]
        places[left] = heads[left, drawn]
        taken = field.masks[
            left[:, None], places[left, None] + tiles.masks.places[orientations[left]]
        ]
        sums = taken.astype(np.int64) + tiles.masks.values[orientations[left]]
        found[left] = (sums < OVERLAP).all(axis=1)
    return orientations, places, found


@lru_cache(maxsize=8)
def _first_tails(side: int, margin: int) -> list[Integers]:
    """Where the tail of the first target can lie, of each orientation: away from the border."""
    tiles, edge = segments(side, margin), 2 * LOOKS[side].seed_distance
    taken = np.ones((side, side), dtype=bool)
    taken[edge : side - edge, edge : side - edge] = False
    return [_free(tiles, taken, orientation) for orientation in range(DEGREES)]


def _free(tiles: Segments, taken: NDArray[np.bool_], orientation: int) -> Integers:
    """Places where a tail has its whole segment on pixels of the image (side, side) not taken."""
    wide = np.pad(taken, tiles.border).ravel()  # outside of the image nothing is taken
    blocked = np.zeros_like(wide)
    for offset in tiles.solid[orientation].tolist():
        if offset >= 0:
            blocked[: len(wide) - offset] |= wide[offset:]
        else:
            blocked[-offset:] |= wide[:offset]
    inside = np.pad(np.ones_like(taken), tiles.border).ravel()
    return np.flatnonzero(inside & ~blocked)


def _empty(tiles: Segments, n: int) -> _Field:
    """A field on which nothing is drawn: its border is taken, and outside of it nobody goes."""
    look, border = tiles.look, tiles.border
    mask = np.zeros((tiles.width, tiles.width), dtype=np.uint8)
    reach = np.full_like(mask, SOLID)
    image = slice(border, -border)
    inner = slice(border + look.padding, -border - look.padding)
    mask[image, image] = SOLID
    mask[inner, inner] = 0
    inner = slice(inner.start + tiles.margin, inner.stop - tiles.margin)
    reach[inner, inner] = 0
    return _Field(np.tile(mask.ravel(), (n, 1)), np.tile(reach.ravel(), (n, 1)))


def _brighten(pictures: Bytes, tiles: Tiles, orientations: Integers, places: Integers) -> None:
    """Put a tile on each of the pictures (A, W * W), where it is brighter."""
    where = (np.arange(len(places))[:, None], places[:, None] + tiles.places[orientations])
    pictures[where] = np.maximum(pictures[where], tiles.values[orientations])


def _render(
    tiles: Segments, targets: Contours, distractors: Contours, markers: tuple[int, int]
) -> Bytes:
    """Strokes and markers, combined by the maximum and scaled to 0..255."""
    look = tiles.look
    canvas = np.zeros(tiles.width**2)
    for contours, contrast in (
        (targets, look.target_contrast),
        (distractors, look.distractor_contrast),
    ):
        for orientation, place in zip(
            contours.orientations.ravel(), contours.places.ravel(), strict=True
        ):
            where = place + tiles.lines.places[orientation]
            seen = tiles.lines.values[orientation] / SOLID * contrast
            canvas[where] = np.maximum(canvas[where], seen)
    image = _square(tiles, canvas)
    for marker in markers:
        row, column = tiles.pixels(np.array(marker)).tolist()
        image = np.maximum(image, _marker(look, row, column))
    scaled = (image - image.min()) * (255 / (image.max() - image.min())) + 0.5
    return np.asarray(scaled, dtype=np.uint8)


def _marker(look: Look, row: int, column: int) -> Reals:
    """A disc (side, side) of brightness 1."""
    from PIL import Image

    across = np.arange(look.side * SCALE)
    away = (across[:, None] - row * SCALE) ** 2 + (across - column * SCALE) ** 2
    disc = np.where(away <= (look.marker_radius * SCALE) ** 2, SOLID, 0).astype(np.uint8)
    small = Image.fromarray(disc).resize((look.side, look.side), Image.Resampling.LANCZOS)
    bright: Reals = np.asarray(small) / SOLID
    return bright


def _square(tiles: Segments, flat: NDArray[T]) -> NDArray[T]:
    """The image (side, side) of a flat picture."""
    inside = slice(tiles.border, tiles.border + tiles.look.side)
    return flat.reshape(tiles.width, tiles.width)[inside, inside].copy()


def _uniform(rng: torch.Generator, *shape: int) -> Reals:
    drawn: Reals = torch.rand(shape, generator=rng, dtype=torch.float64).numpy()
    return drawn


def _integers_of(rng: torch.Generator, n: int, size: int) -> Integers:
    return (_uniform(rng, size) * n).astype(np.int64)


def _integers(rng: torch.Generator, n: int) -> int:
    return int(_uniform(rng, 1)[0] * n)
