"""How fast Pathfinder images are drawn on one core.

    python tests/speed/pathfinder_images.py

prints images per second of processor time for each size at the hard level, a contour length of 14;
at least 20 are wanted at 32 x 32 and 2 at 128 x 128.
"""

from __future__ import annotations

import time

import torch

from tasks.drawing.contours import draw_picture
from tasks.drawing.segments import LOOKS
from tasks.task import generator

SECONDS = 10.0
WANTED_PER_S = {32: 20, 128: 2}


def main() -> None:
    """Print one line per size."""
    torch.set_num_threads(1)
    for side in LOOKS:
        began = time.process_time()
        draw_picture(generator("warm", side), side, 14)  # draws the segments
        first_s = time.process_time() - began
        began, n = time.process_time(), 0
        while (passed := time.process_time() - began) < SECONDS:
            draw_picture(generator("speed", side, n), side, 14)
            n += 1
        wanted = WANTED_PER_S.get(side)
        verdict = "" if wanted is None else ("  ok" if n / passed >= wanted else "  TOO SLOW")
        print(f"{side:4} {n / passed:7.1f} images/s, first {first_s:.2f} s{verdict}")


if __name__ == "__main__":
    main()
