"""The instruments: what `measure.instruments` may name. Nothing here imports torch.

`throughput` times all cells of a study in one process, in turns (`bench.measure.session`). Every
other one is a file `bench/measure/NAME.py` with::

    def measure(run: Run) -> Metrics

which is called once in a process of its own, forked for one cell, with torch's threads set to
`run.resources.threads`. Its metrics join those of the throughput in the cell's row. What it cannot
measure it leaves out, with the reason under `NAME_missing`; if it raises or its process dies, the
row says `NAME_missing` too and keeps what the others measured.

To add one: its file, and its line here. Modules stand here by name, as nowhere else in the house,
because what reads a study must not import torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from bench.measure.metrics import Metrics
from bench.records.row import Status

THROUGHPUT = "throughput"


@dataclass(frozen=True)
class Instrument:
    """An instrument that runs alone in a fresh process."""

    module: str
    timed: bool  # it times, and so has the machine to itself; others run beside each other


INSTRUMENTS: dict[str, Instrument] = {
    "memory": Instrument("bench.measure.memory", timed=False),
    "gradient_reach": Instrument("bench.measure.gradient_reach", timed=False),
    "streaming": Instrument("bench.measure.streaming", timed=True),
    "energy": Instrument("bench.measure.energy", timed=True),
    "devices": Instrument("bench.measure.devices", timed=True),
    # What is free moves while others run.
    "longest_length": Instrument("bench.measure.longest_length", timed=True),
}


def names() -> list[str]:
    """All that a study may ask for."""
    return [THROUGHPUT, *INSTRUMENTS]


@dataclass(frozen=True)
class Found:
    """What became of one instrument on one cell: its metrics, or how it ended and why."""

    status: Status = "ok"
    reason: str = ""
    log_tail: str = ""
    metrics: Metrics | None = None


def merged(found: Mapping[str, Found]) -> Metrics:
    """The metrics of all instruments that measured, and why the others are missing."""
    metrics: Metrics = {}
    for name, one in found.items():
        if one.metrics is None:
            metrics[f"{name}_missing"] = f"{one.status}: {one.reason}"
        else:
            metrics |= one.metrics
    return metrics
