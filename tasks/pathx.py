"""Path-X: Pathfinder at 128 x 128, the longest task of Long Range Arena.

Tay et al. 2021, https://arxiv.org/abs/2011.04006, section 2.2.6.
"""

from __future__ import annotations

from dataclasses import dataclass

from tasks.pathfinder import Pathfinder

SIDES = (128, 256)


@dataclass(frozen=True, kw_only=True)
class PathX(Pathfinder):
    """Pathfinder on 128 x 128 pixels: 16,384 steps; with 65,536 it is Path-256.

    -1 -1 .2 ... -1 (grey values in -1..1) -> 1. The images are those of `pathfinder` at the same
    length. Chance is 0.5, and no model of the published table does better.
    """

    length: int = 16384  # pixels: 16384 or 65536

    def __post_init__(self) -> None:
        """Refuse fields that name no task."""
        super().__post_init__()
        if self.length not in (lengths := [side**2 for side in SIDES]):
            raise ValueError(f"length must be one of {lengths}, not {self.length}")
