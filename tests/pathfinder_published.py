"""Pathfinder's published procedure, one attempt and one pixel after another: slow, to compare with.

Written from drewlinsley/pathfinder at commit ab9c130 (snakes2.py, snakes.py). It shares nothing
with the fast generator but the table of options.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from PIL import Image, ImageDraw
from scipy import ndimage

from tasks.drawing.segments import Look

SCALE = 2
PI = np.pi


@dataclass
class Drawn:
    """An image and what the comparison looks at."""

    pixels: np.ndarray[Any, Any]
    label: int
    margin: int
    n_attempts: int
    n_distractors: int
    markers: list[list[int]]
    turns: list[float] = field(default_factory=list)  # radians between segments of the targets
    boxes: list[int] = field(default_factory=list)  # larger side around the heads of each target


def disc(radius: int) -> Any:
    y, x = np.ogrid[-radius : radius + 1, -radius : radius + 1]
    return x**2 + y**2 <= radius**2


def dilate(image: Any, footprint: Any) -> Any:
    """OpenCV's dilation: not mirrored, nothing comes from outside of the image."""
    return ndimage.maximum_filter(image, footprint=footprint, mode="constant", cval=0)


def moved(pixel: Any, angle: float, distance: float) -> list[int]:
    return [
        int(np.ceil(pixel[0] + distance * np.sin(angle))),
        int(np.ceil(pixel[1] + distance * np.cos(angle))),
    ]


def turned_back(angle: float) -> float:
    return angle + PI if angle < 0 else angle - PI


def shrink(image: Any, size: tuple[int, int]) -> Any:
    return np.array(Image.fromarray(image).resize(size, Image.Resampling.LANCZOS))


class Published:
    """The procedure with one margin."""

    def __init__(self, look: Look, contour_length: int, rng: np.random.Generator) -> None:
        self.look, self.contour_length, self.rng = look, contour_length, rng
        self.margin = look.margins[rng.integers(len(look.margins))]
        self.shape = (look.side, look.side)

    def is_inside(self, pixel: list[int]) -> bool:
        return all(0 <= x < self.look.side for x in pixel)

    def stroke(self, shape: tuple[int, int], start: Any, angle: float) -> tuple[Any, Any]:
        """The line and its mask on an image, both in 0..1."""
        look, m = self.look, self.margin
        half = look.segment + int(np.ceil(look.thickness)) + m
        large = Image.new("L", (2 * half * SCALE + 1,) * 2)
        centre = half * SCALE
        y, x = moved([centre, centre], angle, look.segment * SCALE)
        width = int(np.round(look.thickness * SCALE))
        ImageDraw.Draw(large).line([(centre, centre), (x, y)], fill=255, width=width)
        line = np.array(large)
        size = (2 * half + 1, 2 * half + 1)
        tiles = [shrink(line, size) / 255, shrink(dilate(line, disc(m * SCALE)), size) / 255]
        images = []
        for tile in tiles:
            image = np.zeros(shape)
            left = start[1] - half
            a, b = max(0, left), min(shape[1], left + size[1])
            for row in range(size[0]):
                y = start[0] - half + row
                if 0 <= y < shape[0] and a < b:
                    image[y, a:b] = tile[row, a - left : b - left]
            images.append(image)
        return images[0], images[1]

    def free_pixels(self, mask: Any, edge: int, angle: float) -> Any:
        look, m = self.look, self.margin
        reach = look.segment + m
        _, struct = self.stroke((2 * reach + 1,) * 2, [reach + 1, reach + 1], angle)
        lined = mask.copy()
        lined[:edge] = lined[look.side - edge :] = 1
        lined[:, :edge] = lined[:, look.side - edge :] = 1
        dilated = dilate(lined, struct.astype(np.uint8) > 0)
        return np.argwhere(np.ceil(dilated - 0.3) <= 0)

    def ends(self, tail: list[int], angle: float) -> tuple[list[int], bool]:
        head = moved(tail, angle, self.look.segment)
        pivot = moved(head, turned_back(angle), self.look.segment + self.margin)
        return pivot, self.is_inside(head) and self.is_inside(pivot)

    def extend(self, mask: Any, last_mask: Any, pivot: Any, angle: float) -> Any:
        """None, or line, mask of the segment, what is taken, pivot, angle and head."""
        look, m, rng = self.look, self.margin, self.rng
        pivot = moved(pivot, angle, look.segment + 2 * m)
        dilated = dilate(mask, disc(m))
        radius = look.segment + m
        steps = np.arange(0, 360, 360 / (2 * radius * PI)) * PI / 180
        heads = set()
        for step in steps:
            y, x = pivot[0] + radius * np.sin(step), pivot[1] + radius * np.cos(step)
            if 0 <= y < look.side and 0 <= x < look.side:
                heads.add((int(y), int(x)))
        if not heads:
            return None
        ordered = sorted(heads)
        weights, angles = [], []
        for y, x in ordered:
            to = np.arctan2(y - pivot[0], x - pivot[1])
            bend = min(abs(to - angle), 2 * PI - abs(to - angle))
            weight = max(np.cos(min(bend * look.continuity, PI / 2)), 0) ** 2
            weights.append(weight * (1 - dilated[y, x]))
            angles.append(to)
        total = sum(weights)
        if total < 1e-4:
            return None
        cumulated = np.cumsum(np.array(weights) / total)
        for _ in range(3):
            k = int(np.argmax(cumulated - rng.random() > 0))
            line, own = self.stroke(self.shape, ordered[k], turned_back(angles[k]))
            if np.max(mask + own) < 1.8:
                return line, own, np.maximum(mask, last_mask), pivot, angles[k], list(ordered[k])
        return None

    def seed_first(self, mask: Any, edge: int) -> Any:
        for _ in range(3):
            angle = self.rng.integers(-180, 180) * PI / 180
            free = self.free_pixels(mask, edge, angle)
            if not len(free):
                return None
            tail = free[self.rng.integers(len(free))].tolist()
            pivot, good = self.ends(tail, angle)
            if good:
                return tail, pivot, angle
        return None

    def two_targets(self) -> Any:
        look, rng = self.look, self.rng
        mask = np.ones(self.shape)
        p = look.padding
        mask[p:-p, p:-p] = 0
        first = self.seed_first(mask, 2 * look.seed_distance)
        if first is None:
            return None
        second = None
        for _ in range(3):
            angle = rng.integers(-180, 180) * PI / 180
            away = rng.integers(0, 360) * PI / 180
            tail = [
                int(np.round(first[0][0] + look.seed_distance * np.sin(away))),
                int(np.round(first[0][1] + look.seed_distance * np.cos(away))),
            ]
            pivot, good = self.ends(tail, angle)
            if good:
                second = (tail, pivot, angle)
                break
        if second is None:
            return None
        snakes = []
        for tail, pivot, angle in (first, second):
            line, own = self.stroke(self.shape, tail, angle)
            snakes.append(
                {"image": line, "mask": own, "pivot": pivot, "angles": [angle], "tips": [tail]}
            )
        for _ in range(self.contour_length - 1):
            for snake in snakes:
                found = self.extend(mask, snake["mask"], snake["pivot"], snake["angles"][-1])
                if found is None:
                    return None
                line, own, mask, pivot, angle, head = found
                snake["image"] = np.maximum(snake["image"], line)
                snake["mask"], snake["pivot"] = own, pivot
                snake["angles"].append(angle)
                snake["tips"].append(head)
        return snakes, np.maximum(mask, snakes[-1]["mask"])

    def distractor(self, image: Any, mask: Any) -> Any:
        if np.mean(np.ceil(mask - 0.3) <= 0) < 0.01:
            return None
        seed = self.seed_first(mask, 1)
        if seed is None:
            return None
        tail, pivot, angle = seed
        line, own = self.stroke(self.shape, tail, angle)
        contrast = self.look.distractor_contrast
        image = np.maximum(image, line * contrast)
        for _ in range(self.contour_length // 3 - 1):
            found = self.extend(mask, own, pivot, angle)
            if found is None:
                return None
            line, own, mask, pivot, angle, _ = found
            image = np.maximum(image, line * contrast)
        return image, np.maximum(mask, own)

    def disc_image(self, centre: Any) -> Any:
        side, radius = self.look.side, self.look.marker_radius * SCALE
        y, x = np.ogrid[0 : side * SCALE, 0 : side * SCALE]
        large = (y - centre[0] * SCALE) ** 2 + (x - centre[1] * SCALE) ** 2 <= radius**2
        return shrink((large * 255).astype(np.uint8), self.shape) / 255

    def draw(self) -> Drawn:
        rng, n_attempts = self.rng, 0
        label = int(rng.integers(2))
        made = None
        while made is None:
            made = self.two_targets()
            n_attempts += 1
        snakes, mask = made
        image = np.maximum(snakes[0]["image"], snakes[1]["image"]) * self.look.target_contrast
        n_distractors = 0
        for _ in range(self.look.n_distractors):
            for _ in range(5):
                found = self.distractor(image, mask)
                if found is not None:
                    image, mask = found
                    n_distractors += 1
                    break
        origin = int(rng.integers(2))
        terminal = origin if label else 1 - origin
        markers = [snakes[origin]["tips"][0], snakes[terminal]["tips"][-1]]
        for marker in markers:
            image = np.maximum(image, self.disc_image(marker))
        scaled = (image - image.min()) * 255 / (image.max() - image.min())
        drawn = Drawn(
            (scaled + 0.5).astype(np.uint8), label, self.margin, n_attempts, n_distractors, markers
        )
        for snake in snakes:
            angles = np.array(snake["angles"])
            drawn.turns += np.abs(np.angle(np.exp(1j * np.diff(angles)))).tolist()
            drawn.boxes.append(int(np.ptp(np.array(snake["tips"]), axis=0).max()))
        return drawn
