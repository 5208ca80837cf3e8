"""Seconds for table, leaderboard and page of 100,000 packed rows, and for the demo's table.

    python tests/speed/records.py [--rows 100000]

Targets: table 2 s, leaderboard 4 s, page 10 s; the demo's table, interpreter and all, 1 s.
The study's runs are ready before the clock starts: expanding a study.yaml is not part of these.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path

from bench.records.expected import complete
from bench.records.store import Store
from bench.records.table import render
from bench.report import leaderboard, page
from bench.spec import Run
from tests import synthetic

ROWS_PER_SEED_AND_RATE = 12 * 10 * 8  # architectures x tasks x lengths
RATES = (0.0003, 0.001, 0.003, 0.01)
TARGETS_S = {"table": 2.0, "leaderboard": 4.0, "page": 10.0}


def runs(n_rows: int) -> list[Run]:
    """Training runs of 12 architectures, 10 tasks, 8 lengths, 4 learning rates, and seeds."""
    n_seeds = max(2, round(n_rows / ROWS_PER_SEED_AND_RATE / len(RATES)))
    architectures = [*synthetic.ARCHITECTURES, *({"name": "lstm", "n": n} for n in range(5))]
    tasks = [{"name": name, "n": n} for name in ("mqar", "adding") for n in range(5)]
    lengths = [2**n for n in range(6, 14)]
    return synthetic.runs(architectures, tasks, lengths, n_seeds, RATES)


def demo_table_s(folder: Path) -> float:
    """A new interpreter that prints the table of a study of the demo's size."""
    synthetic.fill(Store(folder), synthetic.runs(lengths=(128, 512), seeds=3))
    program = (
        "import sys, pathlib; from bench.records.store import Store; "
        "from bench.records.table import render; "
        "sys.stdout.buffer.write(render(Store(pathlib.Path(sys.argv[1])).frame(), 'md'))"
    )
    times = []
    for _ in range(5):
        begun = time.perf_counter()
        subprocess.run(
            [sys.executable, "-c", program, str(folder)], check=True, stdout=subprocess.DEVNULL
        )
        times.append(time.perf_counter() - begun)
    return sorted(times)[len(times) // 2]


def make(store: Store, given: list[Run]) -> None:
    """In a process of its own, whose memory is not that of the reports."""
    synthetic.pack(store, map(synthetic.row, given))


@contextmanager
def said(what: str) -> Iterator[None]:
    """Print how long the block took."""
    begun = time.perf_counter()
    yield
    print(f"{what:<32} {time.perf_counter() - begun:8.2f} s", flush=True)


def main() -> None:
    """Print the seconds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=100_000)
    n_rows = parser.parse_args().rows
    with tempfile.TemporaryDirectory() as name:
        print(f"{'table of the demo, median of 5':<32} {demo_table_s(Path(name) / 'demo'):8.2f} s")
        store = Store(Path(name))
        given = runs(n_rows)
        study = synthetic.study(given, store.folder)
        with said(f"making {len(given)} rows (untimed)"):
            made = get_context("fork").Process(target=make, args=(store, given))
            made.start()
            made.join()
        with said("ids of the runs, part of each"):
            _ = [run.id for run in given]
        jobs: dict[str, Callable[[], object]] = {
            "table": lambda: render(complete(study, store), "md"),
            "leaderboard": lambda: leaderboard.write(study, store),
            "page": lambda: page.write(study, store, store.folder / "report.html"),
        }
        for job, work in jobs.items():
            with said(f"{job}, target {TARGETS_S[job]:g} s"):
                work()
    peak_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{'peak resident':<32} {peak_mib:8.0f} MiB")


if __name__ == "__main__":
    main()
