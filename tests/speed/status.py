"""Seconds of `bench status` on a study of 10,000 cells, interpreter and all.

    python tests/speed/status.py [--cells 10000]

Target: 2 s, however the rows are kept.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bench.records.store import Store
from bench.study import load
from tests import synthetic

STUDY = """
title: Many cells
base: {{training: {{steps: 300}}}}
grid:
  architecture: [lstm, gru, rnn, s4d, transformer]
  task: [mqar, adding]
  length: [128, 512, 2048, 8192]
  seed: {seeds}
"""
N_PER_SEED = 5 * 2 * 4
SHARE_DONE = 0.8
N_CLAIMS = 200
TARGET_S = 2.0


def make(folder: Path, n_cells: int) -> Store:
    """A study of which most has rows, some has claims, and the rest is pending."""
    (folder / "work").mkdir()
    seeds = list(range(round(n_cells / N_PER_SEED)))
    (folder / "study.yaml").write_text(STUDY.format(seeds=seeds))
    store, runs = Store(folder), load(folder).runs
    (folder / "rows").mkdir()
    n_done = round(SHARE_DONE * len(runs))
    for run in runs[:n_done]:
        row = synthetic.row(run, provenance={**synthetic.PROVENANCE, "seconds": 12.5})
        text = row.model_dump_json()
        (folder / "rows" / f"{run.id}.json").write_text(text)
    for run in runs:
        (folder / "work" / f"{run.id}.log").touch()
    for run in runs[n_done : n_done + N_CLAIMS]:
        claim = {"host": "node", "pid": 1, "slurm_job_id": None, "restart": 0}
        text = json.dumps({**claim, "started_at_unix_s": time.time()})
        (folder / "work" / f"{run.id}.claim").write_text(text)
    print(f"{len(runs)} cells, {n_done} with a row, {N_CLAIMS} with a claim")
    return store


def seconds(folder: Path) -> float:
    """The median of five calls."""
    times = []
    for _ in range(5):
        begun = time.perf_counter()
        words = [sys.executable, "-m", "bench", "status", str(folder)]
        subprocess.run(words, check=True, stdout=subprocess.DEVNULL)
        times.append(time.perf_counter() - begun)
    return sorted(times)[len(times) // 2]


def main() -> None:
    """Print the seconds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cells", type=int, default=10_000)
    n_cells = parser.parse_args().cells
    with tempfile.TemporaryDirectory() as name:
        store = make(Path(name), n_cells)
        print(f"status, live rows, target {TARGET_S:g} s    {seconds(store.folder):6.2f} s")
        store.pack()
        print(f"status, packed rows, target {TARGET_S:g} s  {seconds(store.folder):6.2f} s")


if __name__ == "__main__":
    main()
