"""The segments of which Pathfinder's contours are made: drawn once for every orientation.

drewlinsley/pathfinder at commit ab9c130, snakes.py: `draw_line_n_mask`, `get_coords_cmf`,
`translate_coord`. There a segment is drawn, dilated and resized anew at every attempt; its look
depends on its orientation alone, and there are few of them: 360 whole degrees of a first segment,
and the directions from a pivot to the pixels of the circle around it.

W the width of the picture with its border, R orientations, K pixels of the circle, M of a tile.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Bytes: TypeAlias = NDArray[np.uint8]
Integers: TypeAlias = NDArray[np.int64]
Reals: TypeAlias = NDArray[np.float64]

DEGREES = 360
SCALE = 2
"""Tiles are drawn this many times larger, and resized."""
SOLID = 255
_FAR = 64.0
"""Added before rounding, as coordinates are there: rounding errors of a sine must not count."""


@dataclass(frozen=True)
class Look:
    """The published options of a size, lengths in pixels."""

    side: int
    padding: int  # the border that contours keep out of
    margins: tuple[int, ...]  # kept free around a segment; one is drawn per image
    segment: int  # the length of a segment
    thickness: float
    marker_radius: float
    seed_distance: int  # between the beginnings of the two contours
    continuity: float  # how strongly a contour goes straight on
    target_contrast: float
    distractor_contrast: float
    n_distractors: int


LOOKS = {
    32: Look(32, 1, (1,), 2, 0.5, 1.5, 7, 1.0, 1.5, 2.0, 5),
    64: Look(64, 1, (1,), 5, 1.0, 2.5, 12, 1.8, 0.8, 0.8, 5),
    128: Look(128, 1, (2, 3), 5, 1.5, 3.0, 20, 1.8, 0.9, 0.9, 8),
    256: Look(256, 22, (3,), 5, 2.0, 5.0, 27, 1.8, 1.0, 1.0, 7),
}


@dataclass(frozen=True)
class Tiles:
    """Pixels that are not 0 of R tiles, relative to a place in the flat picture.

    Tiles of fewer than M pixels repeat their first one.
    """

    places: Integers  # (R, M)
    values: Bytes  # (R, M)


@dataclass(frozen=True)
class Segments:
    """Everything about segments of one size and margin, by orientation.

    Orientations 0 to 359 are the degrees -180 to 179 of a first segment, which is placed by its
    tail; the K after them are those of the circle, placed by the head. Places are relative, in the
    flat picture of W * W pixels, of which `border` on each side are outside of the image.
    """

    look: Look
    margin: int
    border: int
    width: int
    lines: Tiles  # what is seen
    masks: Tiles  # what is kept free of others
    reaches: Tiles  # the masks dilated by the margin: where no head may come to lie
    solid: tuple[Integers, ...]  # of each first segment: what must be free at a place for its tail
    heads: Integers  # (360, 2) rows and columns from the tail of a first segment to its head
    pivots: Integers  # (360, 2) from its tail to its pivot
    steps: Integers  # (R,) from a pivot to the next
    circle: Integers  # (R, K) from a pivot to the heads that can follow, likely or not
    chosen: Integers  # (R, K) the orientation of the segment that ends there
    weights: Reals  # (R, K) how likely, before what is taken is left out

    def flat(self, pixels: Integers) -> Integers:
        """Places of pixels (..., 2) of the image, or near it: rows and columns."""
        return (pixels[..., 0] + self.border) * self.width + pixels[..., 1] + self.border

    def pixels(self, places: Integers) -> Integers:
        """Rows and columns (..., 2) of places."""
        return np.stack(np.divmod(places, self.width), axis=-1) - self.border

    def begins_inside(self, tails: Integers, orientations: Integers) -> NDArray[np.bool_]:
        """Whether first segments at pixels (..., 2) have their heads and pivots in the image."""
        ends = np.stack([tails + self.heads[orientations], tails + self.pivots[orientations]])
        return np.asarray(((ends >= 0) & (ends < self.look.side)).all(axis=(0, -1)))


@lru_cache(maxsize=8)
def segments(side: int, margin: int) -> Segments:
    """Draw the segments of a size and margin."""
    look = LOOKS[side]
    half = look.segment + math.ceil(look.thickness) + margin
    border = 2 * half + margin + 2
    width = side + 2 * border
    pixels, angles = _circle(look.segment + margin)
    degrees = np.deg2rad(np.arange(-180.0, 180.0))
    directions = np.concatenate([degrees, angles])  # (R,) in which a contour goes on
    drawn = np.concatenate([degrees, _reversed(angles)])  # (R,) in which a line is drawn
    tiles = [_draw(look, margin, half, angle) for angle in drawn]
    lines, masks = (np.stack([tile[k] for tile in tiles]) for k in (0, 1))
    wide = np.pad(masks, ((0, 0), (margin, margin), (margin, margin)))
    reaches = np.max([np.roll(wide, offset, axis=(1, 2)) for offset in _offsets(margin)], axis=0)

    def apart(row: Integers, column: Integers) -> Integers:
        return row * width + column

    heads = np.stack([_ceil(look.segment * f(degrees)) for f in (np.sin, np.cos)], axis=1)
    behind = _reversed(degrees)
    reach = look.segment + margin
    back = np.stack([_ceil(reach * f(behind)) for f in (np.sin, np.cos)], axis=1)
    stride = look.segment + 2 * margin
    bent = np.abs(angles[None] - directions[:, None])  # (R, K)
    bent = np.minimum(np.minimum(bent, 2 * np.pi - bent) * look.continuity, np.pi / 2)
    weights = np.cos(bent) ** 2
    weights[weights < 1e-30] = 0  # the cosine of a right angle is not 0 in floating point
    # Most of the circle lies behind: what has no weight is left out, the order is kept.
    most = int((weights > 0).sum(1).max())
    ahead = np.sort(np.argsort(weights == 0, axis=1, kind="stable")[:, :most], axis=1)
    return Segments(
        look=look,
        margin=margin,
        border=border,
        width=width,
        lines=_tiles(lines, width),
        masks=_tiles(masks, width),
        reaches=_tiles(reaches, width),
        # In the published code the tile of a first segment is drawn one pixel off the centre of
        # the structuring element, and cut at its edge.
        solid=tuple(
            apart(*(np.argwhere(_cut(mask, half, reach) == SOLID) - reach).T)
            for mask in masks[:DEGREES]
        ),
        heads=heads,
        pivots=heads + back,
        steps=apart(_ceil(stride * np.sin(directions)), _ceil(stride * np.cos(directions))),
        circle=apart(pixels[:, 0], pixels[:, 1])[ahead],
        chosen=DEGREES + ahead,
        weights=np.take_along_axis(weights, ahead, axis=1),
    )


def _circle(radius: int) -> tuple[Integers, Reals]:
    """Pixels (K, 2) on a circle around a pixel, row and column, and their directions (K,)."""
    step = 360.0 / (2 * radius * np.pi)  # degrees for one pixel of arc
    angles = np.arange(0, 360, step) * np.pi / 180
    exact = np.stack([_FAR + radius * np.sin(angles), _FAR + radius * np.cos(angles)], axis=1)
    pixels = np.unique(exact.astype(np.int64), axis=0) - int(_FAR)
    return pixels, np.arctan2(pixels[:, 0], pixels[:, 1])


def _reversed(angles: Reals) -> Reals:
    return np.where(angles < 0, angles + np.pi, angles - np.pi)


def _ceil(distance: Reals) -> Integers:
    return np.ceil(_FAR + distance).astype(np.int64) - int(_FAR)


def _offsets(radius: int) -> list[tuple[int, int]]:
    """The pixels of a disc around its centre."""
    span = range(-radius, radius + 1)
    return [(row, column) for row in span for column in span if row**2 + column**2 <= radius**2]


def _draw(look: Look, margin: int, half: int, angle: float) -> tuple[Bytes, Bytes]:
    """A line from the centre of a tile (2 half + 1, 2 half + 1), and the line dilated."""
    from PIL import Image, ImageDraw

    large = 2 * half * SCALE + 1
    centre, length = half * SCALE, look.segment * SCALE
    image = Image.new("L", (large, large))
    end = [centre + int(_ceil(np.asarray(length * f(angle)))) for f in (math.cos, math.sin)]
    ImageDraw.Draw(image).line([centre, centre, *end], SOLID, round(look.thickness * SCALE))
    line = np.asarray(image)
    dilated = np.zeros_like(line)
    for row, column in _offsets(margin * SCALE):
        dilated = np.maximum(dilated, _shifted(line, row, column))
    size = (2 * half + 1, 2 * half + 1)
    small = [Image.fromarray(x).resize(size, Image.Resampling.LANCZOS) for x in (line, dilated)]
    return np.asarray(small[0]), np.asarray(small[1])


def _shifted(image: Bytes, row: int, column: int) -> Bytes:
    """An image moved down and right; what leaves it is lost."""
    n = len(image)
    moved = np.zeros_like(image)
    moved[max(0, row) : n + min(0, row), max(0, column) : n + min(0, column)] = image[
        max(0, -row) : n + min(0, -row), max(0, -column) : n + min(0, -column)
    ]
    return moved


def _cut(mask: Bytes, half: int, reach: int) -> Bytes:
    """A tile with its centre at (reach + 1, reach + 1) of an image (2 reach + 1, 2 reach + 1)."""
    image = np.zeros((2 * reach + 1, 2 * reach + 1), dtype=np.uint8)
    first = max(0, reach + 1 - half)
    n = 2 * reach + 1 - first
    skipped = first - (reach + 1 - half)
    image[first:, first:] = mask[skipped : skipped + n, skipped : skipped + n]
    return image


def _tiles(tiles: Bytes, width: int) -> Tiles:
    """The pixels above 0 of tiles (R, n, n), of which the centre is the place 0."""
    half = tiles.shape[1] // 2
    row, column = np.mgrid[-half : half + 1, -half : half + 1]
    flat = (row * width + column).ravel()
    found = tiles.reshape(len(tiles), -1)
    order = np.argsort(found == 0, axis=1, kind="stable")[:, : int((found > 0).sum(1).max())]
    values = np.take_along_axis(found, order, axis=1)
    order = np.where(values > 0, order, order[:, :1])
    return Tiles(flat[order], np.take_along_axis(found, order, axis=1))
