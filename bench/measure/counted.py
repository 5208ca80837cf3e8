"""The memory of one cell in a process that was started with the malloc counter preloaded.

`python -m bench.measure.counted RESULT`: the run's JSON is the first line of the standard input;
the file RESULT gets the metrics, or the exception. It exists, empty, from when the counter was
found. The process ends when its standard input does: with the one that started it.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import traceback
from pathlib import Path

import torch

from bench.measure.footprint import footprint
from bench.measure.malloc_counter import CounterMissingError, MallocCounter
from bench.measure.metrics import Metrics
from bench.spec import Run
from bench.training import products
from bench.training.execute import device_of


def main() -> None:
    """Measure what the standard input asks for."""
    result = Path(sys.argv[1])
    os.environ.pop("LD_PRELOAD")  # compilers and the like go without
    run = Run.model_validate_json(sys.stdin.readline())
    threading.Thread(target=_end_with_input, daemon=True).start()
    try:
        counter = MallocCounter()
    except CounterMissingError as error:
        sys.exit(str(error))
    result.touch()
    torch.set_num_threads(run.resources.threads)
    try:
        told: dict[str, object] = {"metrics": measure_here(run, counter)}
    except Exception as error:
        told = {
            "error": type(error).__name__,
            "message": str(error),
            "traceback": traceback.format_exc(),
        }
    result.write_text(json.dumps(told))
    sys.stdout.flush()
    os._exit(0)  # nothing is left to be done, and the thread reads still


def measure_here(run: Run, counter: MallocCounter) -> Metrics:
    """The metrics of a run, in this process, by the products that training would take."""
    device = device_of(run)
    products.settle(device)
    return footprint(run, device, counter)


def _end_with_input() -> None:
    sys.stdin.read()
    os._exit(1)


if __name__ == "__main__":
    main()
