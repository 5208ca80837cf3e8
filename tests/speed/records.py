"""Seconds and memory for what is made of many packed rows, and for the demo's table.

    python tests/speed/records.py [--rows 1000000] [--store FOLDER] [--only table,page]

Targets of 100,000 rows: table 2 s, leaderboard 4 s, page 10 s, memory 1.5 GB; of 1,000,000 rows:
table 10 s; the demo's table, interpreter and all, 1 s. The study's runs are ready before the clock
starts: expanding a study.yaml is not part of these, and is timed by itself. Each job has a process
of its own, whose peak holds the runs too.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from bench.records import files, packed
from bench.records.expected import complete
from bench.records.store import Store, canonical
from bench.records.table import render
from bench.records.tidy import normalise, tidy
from bench.report import claims, comparison, comparison_tables, leaderboard, page, pair_tables
from bench.report.claim_file import FILE as CLAIMS_FILE
from bench.report.claim_file import read
from bench.spec import Run
from bench.study import STUDY_FILE, Study, load
from tests import synthetic

ROWS_PER_SEED_AND_RATE = 12 * 10 * 8  # architectures x tasks x lengths
RATES = (0.0003, 0.001, 0.003, 0.01)
TARGETS_S = {
    100_000: {"table": 2.0, "leaderboard": 4.0, "page": 10.0},
    1_000_000: {"table": 10.0},
}
CHUNK = 20_000  # rows in memory at a time while they are made
N_DISTINCT = 26  # seeds whose numbers are drawn: those of 100,000 rows
CLAIMS = """\
claims:
  - name: one
    says: LSTMs read short sequences better than plain RNNs do.
    evidence:
      - metric: test_score
        group: {architecture: lstm(n=0), task: "mqar(n=0)", length: 64}
        against: {architecture: rnn, task: "mqar(n=0)", length: 64}
        above: 0
  - name: two
    says: Everything trains.
    evidence:
      - {metric: status, share_of: ok, group: {purpose: train}, above: 0.99}
  - name: three
    says: The time of recurrent networks is linear in length.
    evidence:
      - {exponent: train, group: {task: "mqar(n=0)"}, each: {architecture: [rnn, gru, s4d]},
         between: [0.8, 1.2]}
"""


def study_text(n_rows: int) -> str:
    """Training runs of 12 architectures, 10 tasks, 8 lengths, 4 learning rates, and seeds."""
    n_seeds = max(2, round(n_rows / ROWS_PER_SEED_AND_RATE / len(RATES)))
    more: list[Any] = [{"name": "lstm", "n": n} for n in range(5)]
    grid = {
        "architecture": [*synthetic.ARCHITECTURES, *more],
        "task": [{"name": name, "n": n} for name in ("mqar", "adding") for n in range(5)],
        "length": [2**n for n in range(6, 14)],
        "training.learning_rate": list(RATES),
        "seed": list(range(n_seeds)),
    }
    base = {"training": {"steps": 300}}
    measure = {"instruments": ["throughput", "memory"]}
    return yaml.safe_dump({"title": "Many rows", "base": base, "grid": grid, "measure": measure})


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


def make(folder: Path) -> None:
    """A row for every run of the study in a folder; beyond N_DISTINCT seeds they repeat."""
    runs = sorted(load(folder).runs, key=lambda run: run.id)
    first = [run for run in runs if run.seed < N_DISTINCT]
    places = {_repeated(run): place for place, run in enumerate(first)}
    frames, texts = [], []
    for begun in range(0, len(first), CHUNK):
        rows = [synthetic.row(run) for run in first[begun : begun + CHUNK]]
        frames.append(tidy(rows))
        texts += map(canonical, rows)
    sources = [places[_repeated(run)] for run in runs]
    frame = pd.concat(frames, ignore_index=True).iloc[sources]
    frame = frame.assign(id=[run.id for run in runs], seed=[run.seed for run in runs])
    copies = [
        texts[source]
        .replace(first[source].id, run.id)
        .replace(f'"seed":{first[source].seed},', f'"seed":{run.seed},')
        for run, source in zip(runs, sources, strict=True)
    ]
    files.write_atomically(Store(folder).packed_file, packed.encode(normalise(frame), copies))


def _repeated(run: Run) -> tuple[object, ...]:
    """What rows of the same numbers have in common."""
    names = (str(run.architecture), str(run.task), run.length, run.training.learning_rate)
    return (*names, run.purpose, run.seed % N_DISTINCT)


@contextmanager
def said(what: str) -> Iterator[None]:
    """Print how long the block took."""
    begun = time.perf_counter()
    yield
    print(f"{what:<36} {time.perf_counter() - begun:8.2f} s", flush=True)


def apart(what: str, work: Callable[[], object]) -> None:
    """Print the seconds of some work, on the clock and of the processor, and its peak memory."""

    def timed() -> None:
        begun, cpu_begun = time.perf_counter(), time.process_time()
        work()
        seconds, cpu_s = time.perf_counter() - begun, time.process_time() - cpu_begun
        peak_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(f"{what:<36} {seconds:8.2f} s {cpu_s:8.2f} s {peak_mib:8.0f} MiB", flush=True)

    process = get_context("fork").Process(target=timed)
    process.start()
    process.join()
    if process.exitcode:
        raise SystemExit(f"{what}: exit code {process.exitcode}")


def jobs(study: Study, store: Store) -> dict[str, Callable[[], object]]:
    """What is timed, by name."""

    def frame() -> pd.DataFrame:
        return complete(study, store)

    def judge() -> str:
        rows = frame()
        return claims.as_text(
            claims.judge(read(store.folder / CLAIMS_FILE, rows), study, rows),
        )

    def compare() -> str:
        found = comparison.compare(frame(), frame())
        return comparison_tables.render(found, ("a", "b"), "md")

    return {
        "table": lambda: render(frame(), "md"),
        "leaderboard": lambda: leaderboard.write(study, store),
        "page": lambda: page.write(study, store, store.folder / "report.html"),
        "pairs": lambda: pair_tables.render(frame(), "md"),
        "claims": judge,
        "compare": compare,
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the seconds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--store", type=Path, help="kept there, and read if it is there")
    parser.add_argument("--only", help="jobs, separated by commas")
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as name:
        print(f"{'table of the demo, median of 5':<36} {demo_table_s(Path(name) / 'demo'):8.2f} s")
        folder = given.store or Path(name) / "study"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / STUDY_FILE).write_text(study_text(given.rows))
        (folder / CLAIMS_FILE).write_text(CLAIMS)
        store = Store(folder)
        if not store.packed_file.exists():
            with said("making the rows (untimed)"):
                made = get_context("spawn").Process(target=make, args=(folder,))
                made.start()
                made.join()
        with said("expanding study.yaml"):
            study = load(folder)
        print(f"{len(study.runs)} runs", flush=True)
        with said("ids of the runs, part of each"):
            _ = [run.id for run in study.runs]
        targets = TARGETS_S.get(given.rows, {})
        for job, work in jobs(study, store).items():
            if given.only is None or job in given.only.split(","):
                target = f", target {targets[job]:g} s" if job in targets else ""
                apart(f"{job}{target}", work)


if __name__ == "__main__":
    main()
