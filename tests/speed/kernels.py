"""Kernels and bodies against the public implementations of the same operations.

    python tests/speed/kernels.py [--quick] [--threads 1] [--only PATTERN] [--device cuda]

Forward and backward, batch 8, float32, 128 channels and 16 states where nothing else is said.
Candidates take turns in one process (kernel_table/timing.py); a line gives the median and quartiles
of ours, the peer's median, the ratio, the A/A ratio as its noise floor, and the share of what this
machine could do at most (kernel_table/limits.py). With one thread, CPU time is taken: those are the
ratios to trust on a busy machine. Exits 1 where a ratio is below its bound; torch's own LSTM, which
is ours too, has to be as fast within a tenth or three times the A/A gap. Freed memory stays with
the process, for all alike: else pages that are asked for again and again cost more than most of the
operations. A Mamba block is timed both ways (kernel_table/processes.py).

`--quick` leaves out what takes long, and times a peer that takes more than a second once.
`--device cuda` compares whatever is dispatched to on a GPU, without bounds; exits 2 if there is
none. Needs mambapy (in the extra `dev`).
"""

import sys
from pathlib import Path

if __name__ == "__main__":
    # Where scripts are looked for first, transformers takes this file for the package `kernels`.
    sys.path.remove(str(Path(__file__).resolve().parent))
    from tests.speed.kernel_table.command import main

    sys.exit(main(__doc__))
