"""Instruments of the tests: importing this registers them, here and where workers are forked."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import torch

from bench.launch.entry import PRELOAD
from bench.measure.instruments import INSTRUMENTS, Instrument
from bench.measure.metrics import Metrics
from bench.spec import Run

NOTES = "PLANTED_NOTES"
"""The variable that names a folder for the times at which the timed instrument was at work."""

INSTRUMENTS["planted"] = Instrument("tests.planted_instruments", timed=True)
INSTRUMENTS["planted_shared"] = Instrument("tests.planted_instruments", timed=False)
if __name__ not in PRELOAD:
    PRELOAD.append(__name__)


def measure(run: Run) -> Metrics:
    """Fail on an rnn, die on a gru, and else tell of the process."""
    if run.architecture.name == "rnn":
        raise MemoryError("9 GiB asked")
    if run.architecture.name == "gru":
        os.kill(os.getpid(), signal.SIGKILL)
    begun = time.monotonic()
    time.sleep(0.2)
    if NOTES in os.environ:
        note = Path(os.environ[NOTES]) / str(os.getpid())
        note.write_text(f"{begun} {time.monotonic()}")
    return {"planted_process_id": os.getpid(), "planted_threads": torch.get_num_threads()}
