"""What a cluster sweep costs beside the cells themselves, on a real Slurm of this machine.

    python tests/speed/cluster.py [--cells 10000]

Targets: 10,000 cells are submitted in 10 s, with one sbatch for each resource shape (and one for
the job that packs the rows); `bench status` of them takes 2 s; a short cell of a packed element
costs 0.3 s beside its own seconds. Then how well two processes share one cell, and the limit that
this machine sets them. Needs slurm-wlm.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from bench.records.store import Store
from bench.study import load
from tests import synthetic
from tests.local_cluster import LocalCluster, wait_for

CELL = {"architecture": "gru", "width": 16, "length": 16, "resources": {"accelerator": "cpu"}}
TASK = {"name": "parity", "n_val": 32, "n_test": 32}
PROFILE = {"shared_folders": True, "environment": {"OMP_NUM_THREADS": "1"}}
N_SHORT_CELLS = 40
SECONDS = 20.0
"""How long the scaling is measured."""

COUNTING = """\
#!/bin/sh
case "$*" in *--test-only*) ;; *) echo "$@" >> {log} ;; esac
exec {sbatch} "$@"
"""


def study(folder: Path, n_seeds: int, steps: int, **profile: object) -> list[str]:
    """Write a study of one cell and many seeds; the answer is the command that submits it."""
    folder.mkdir()
    seeds = list(range(n_seeds))
    training = {"steps": steps, "batch_size": 8, "val_every": steps}
    text = {"title": "cells", "base": {**CELL, "task": TASK, "training": training}}
    (folder / "study.yaml").write_text(json.dumps({**text, "grid": {"seed": seeds}}))
    (folder / "profile.yaml").write_text(json.dumps({**PROFILE, **profile}))
    return bench("sweep", str(folder), "--slurm", str(folder / "profile.yaml"))


def bench(*words: str) -> list[str]:
    """The command line of this package."""
    return [sys.executable, "-m", "bench", *words]


def timed(words: list[str]) -> str:
    """What a command takes, interpreter and all; beyond its CPU others had the machine."""
    begun, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(words, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{words}: {done.stdout}{done.stderr}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return f"{time.perf_counter() - begun:.2f} s ({cpu:.2f} s of CPU)"


def submitting(folder: Path, n_cells: int) -> None:
    """Print what submitting takes, and the status of what was submitted, half of it done."""
    command = study(folder / "large", n_cells, 1, flags=["--hold"])
    programs, log = folder / "programs", folder / "sbatch.log"
    programs.mkdir()
    wrapper = programs / "sbatch"
    wrapper.write_text(COUNTING.format(log=log, sbatch=shutil.which("sbatch")))
    wrapper.chmod(0o755)
    os.environ["PATH"] = os.pathsep.join((str(programs), os.environ["PATH"]))
    taken = timed(command)
    n_calls = len(log.read_text().splitlines())
    print(f"submit {n_cells} cells of one shape, target 10 s: {taken}, {n_calls} sbatch")
    store = Store(folder / "large")
    for run in load(store.folder).runs[::2]:
        store.write(synthetic.row(run))
    words = bench("status", str(store.folder))
    for _ in range(3):
        print(f"status of {n_cells} cells, half of them done, target 2 s: {timed(words)}")


def overhead(folder: Path, cluster: LocalCluster) -> None:
    """Print what a short cell costs beside its own work in a packed element, on a quiet machine."""
    timed(study(folder / "short", N_SHORT_CELLS, 20, target_minutes=2 * N_SHORT_CELLS))
    store, ended = Store(folder / "short"), {}

    def done() -> bool:
        for path in store.live_folder.glob("*.json"):
            ended.setdefault(path.stem, path.stat().st_mtime)
        return not cluster.ask("squeue", "--noheader").strip()

    wait_for(done, "the cells")
    rows = {row.id: row for row in store.rows()}
    assert {row.status for row in rows.values()} == {"ok"}
    order = sorted(ended, key=lambda row_id: ended[row_id])
    costs = [
        ended[later] - ended[earlier] - rows[later].provenance["seconds"]
        for earlier, later in itertools.pairwise(order)
    ]
    print(
        f"a short cell of a packed element, target 0.3 s: {statistics.median(costs):.3f} s beside "
        f"its own (median of {len(costs)}, largest {max(costs):.3f} s)"
    )


def scaling() -> None:
    """Print how two ranks share a step, and what two processes that do not talk lose here."""
    from bench.measure.devices import measure
    from bench.spec import parse_run

    run = parse_run(
        {
            "architecture": "lstm",
            "task": "parity",
            "length": 128,
            "width": 128,
            "training": {"steps": 0, "batch_size": 32},
            "measure": {"instruments": ["devices"], "seconds_per_cell": SECONDS},
            "resources": {"accelerator": "cpu", "strategy": "ddp"},
        }
    )
    found = measure(run, (1, 2))
    for name, meaning in (
        ("ranks_efficiency_2", "1 to 2 processes, same global batch"),
        ("ranks_weak_efficiency_2", "1 to 2 processes, same batch of each"),
    ):
        if name not in found:
            print(f"{meaning}: {found}")
            continue
        interval = f"{found[f'{name}_low']:.2f} to {found[f'{name}_high']:.2f}"
        print(f"{meaning}: efficiency {found[name]:.2f} ({interval})")
    together = independent()
    print(
        f"the limit: two processes that never talk reach {together:.2f} of twice one; the rest is "
        f"gradients on their way ({found.get('ranks_communication_share_2', float('nan')):.2f} of "
        "a step), and half a batch fills the vector units less well"
    )


BUSY = (
    "import time, torch; torch.set_num_threads(1)\n"
    "a, b = torch.rand(32, 512), torch.rand(512, 512)\n"
    "input(); n, end = 0, time.perf_counter() + 3\n"
    "while time.perf_counter() < end: a = torch.tanh(a @ b); n += 1\n"
    "print(n)"
)


def independent() -> float:
    """What two processes do at once, as a share of twice what one does alone."""

    def work(n: int) -> int:
        words = [sys.executable, "-c", BUSY]
        processes = [
            subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            for _ in range(n)
        ]
        time.sleep(10.0)  # until each has imported torch and waits
        with ThreadPoolExecutor(n) as pool:
            return sum(
                int(out) for out, _ in pool.map(lambda one: one.communicate("\n"), processes)
            )

    before, both, after = work(1), work(2), work(1)
    return both / (before + after)


@contextmanager
def a_cluster(folder: Path) -> Iterator[LocalCluster]:
    """A Slurm of one node for as long as it is used."""
    cluster = LocalCluster(folder / "slurm")
    print(cluster.up("--nodes", "1", "--cpus", "2", "--memory", "8000"), end="")
    os.environ |= cluster.environment
    try:
        yield cluster
    finally:
        cluster.down()


def main() -> None:
    """Print all of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cells", type=int, default=10_000)
    n_cells = parser.parse_args().cells
    with tempfile.TemporaryDirectory() as name, a_cluster(Path(name)) as cluster:
        submitting(Path(name), n_cells)
        cluster.cancel_all()
        overhead(Path(name), cluster)
    scaling()


if __name__ == "__main__":
    main()
