"""One look per architecture, the same in every chart of a study.

Colours are Okabe and Ito's and neighbours of them, told apart by colour-blind people and legible on
white and on black; the shape tells apart what shares a colour. Studies side by side differ in how
much their marks are filled. Dashes are kept for reference kernels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

COLOURS = (
    *("#0173b2", "#de8f05", "#029e73", "#d55e00"),
    *("#cc78bc", "#56b4e9", "#949494", "#ca9161"),
)
OUTLINES = {  # of each shape, as the page's legend draws it in a square from -8 to 8
    "circle": "M6,0A6,6,0,1,1,-6,0A6,6,0,1,1,6,0Z",
    "square": "M-5.5,-5.5H5.5V5.5H-5.5Z",
    "triangle-up": "M0,-6L6.5,5.5H-6.5Z",
    "diamond": "M0,-7L5.5,0L0,7L-5.5,0Z",
    "triangle-down": "M0,6L6.5,-5.5H-6.5Z",
    "cross": "M-2.2,-6.5H2.2V-2.2H6.5V2.2H2.2V6.5H-2.2V2.2H-6.5V-2.2H-2.2Z",
    "triangle-right": "M6,0L-5.5,6.5V-6.5Z",
}
SHAPES = tuple(OUTLINES)


@dataclass(frozen=True)
class Look:
    """How an architecture is drawn."""

    architecture: str
    colour: str
    shape: str
    fill: float = 1.0  # opacity inside the outline

    @property
    def outline(self) -> str:
        """The shape as an SVG path."""
        return OUTLINES[self.shape]


def looks(architectures: Sequence[str]) -> list[Look]:
    """7 and 8 have no common factor: 56 architectures before a look returns."""
    return [
        Look(name, COLOURS[index % len(COLOURS)], SHAPES[index % len(SHAPES)])
        for index, name in enumerate(architectures)
    ]


def looks_of_studies(shown: Mapping[str, tuple[str, int]], n_studies: int) -> list[Look]:
    """Looks by label, of what is (architecture, number of its study): full marks, then hollow ones.

    An architecture has one colour and one shape in all of them.
    """
    architectures = list(dict.fromkeys(architecture for architecture, _ in shown.values()))
    known = {look.architecture: look for look in looks(architectures)}
    return [
        replace(known[architecture], architecture=label, fill=1 - index / max(1, n_studies - 1))
        for label, (architecture, index) in shown.items()
    ]
