"""The studies of the cluster tests: submitted, watched, and compared with an undisturbed sweep."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from bench.launch.slurm import submission
from bench.records.store import Store
from bench.study import load
from tests.local_cluster import PATIENCE_S, LocalCluster, wait_for

SIXTY_CELLS = """
title: sixty short cells
base:
  task: {name: parity, n_val: 32, n_test: 33}
  length: 16
  width: 16
  training: {steps: 40, batch_size: 32, val_every: 20}
grid:
  architecture: [gru, rnn, lstm, mingru]
  seed: [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14]
"""

PROFILE: dict[str, Any] = {
    "time": "00:20:00",
    "target_minutes": 15,  # fifteen cells, as one of unknown length is taken for a minute
    "exclusive": True,  # each of the four jobs has a node
    "warning_s": 30,
    "shared_folders": True,
    "environment": {"OMP_NUM_THREADS": "1", "MASTER_ADDR": "127.0.0.1"},
}

TIMED = ("seconds", "_per_s", "_ms")
"""Parts of the names of metrics that no two runs share."""


class ClusterStudy:
    """A study in a folder, and its jobs on the cluster."""

    def __init__(self, cluster: LocalCluster, folder: Path, text: str, **profile: Any) -> None:
        folder.mkdir(parents=True)
        (folder / "study.yaml").write_text(text)
        self.profile = folder / "profile.yaml"
        self.profile.write_text(json.dumps(PROFILE | profile))  # JSON is YAML
        self.cluster, self.folder, self.store = cluster, folder, Store(folder)
        self.run_ids = {run.id for run in load(folder).runs}
        self.written: dict[str, int] = {}

    def command(self, *options: str) -> list[str]:
        """What a user types."""
        words = [sys.executable, "-m", "bench", "sweep", str(self.folder)]
        return [*words, "--slurm", str(self.profile), *options]

    def submit(self) -> str:
        """Submit what is missing."""
        done = subprocess.run(self.command(), capture_output=True, text=True, timeout=PATIENCE_S)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def jobs(self) -> list[int]:
        """The job arrays that were submitted."""
        found = submission.submissions(self.folder).values()
        return [array.job_id for one in found for array in one.arrays]

    def forget_jobs(self) -> None:
        """Let the next command know of no job that was submitted."""
        for file in submission.folder_of(self.folder).glob("*/submission.json"):
            file.unlink()

    def elements(self, job: int, *options: str) -> list[str]:
        """The tasks of an array that Slurm has not ended."""
        words = ("squeue", "--noheader", "--array", f"--jobs={job}", "--format=%F_%K", *options)
        return self.cluster.ask(*words).split()

    def is_at(self, element: str, restarts: str) -> bool:
        """Whether an element runs that was requeued so often."""
        job = self.cluster.job(element)
        return (job["JobState"], job["Restarts"]) == ("RUNNING", restarts)

    def rows_written(self) -> int:
        """How many rows there are; a row that was written a second time is an error."""
        for path in (self.folder / "rows").glob("*.json"):
            try:
                inode = path.stat().st_ino
            except FileNotFoundError:  # packed since
                continue
            assert self.written.setdefault(path.name, inode) == inode, f"{path} was written twice"
        return len(self.written)

    def wait_for_rows(self, least: int) -> None:
        """Wait until so many cells are done, but not all."""
        wait_for(lambda: self.rows_written() >= least, f"{least} rows")
        assert len(self.written) < len(self.run_ids), "too late to disturb anything"

    def wait_for_end(self) -> None:
        """Wait until no job of the study is left."""

        def ended() -> bool:
            self.rows_written()
            return not self.cluster.ask("squeue", "--noheader").strip()

        wait_for(ended, "the jobs to end", patience_s=2 * PATIENCE_S)

    def logs(self) -> str:
        """What the jobs have printed."""
        found = sorted((self.folder / "work" / "slurm").glob("*/*.log"))
        return "\n".join(f"== {path.name}\n{path.read_text()}" for path in found)


def start_here(folder: Path, text: str) -> subprocess.Popen[str]:
    """The same study on this machine, without Slurm and without trouble."""
    folder.mkdir(parents=True)
    (folder / "study.yaml").write_text(text)
    words = [sys.executable, "-m", "bench", "sweep", str(folder)]
    return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def sweep_here(folder: Path, text: str) -> Store:
    """The rows of that."""
    with start_here(folder, text) as process:
        output, _ = process.communicate(timeout=2 * PATIENCE_S)
    assert process.returncode == 0, output
    return Store(folder)


def results(store: Store) -> dict[str, dict[str, Any]]:
    """All that rows say of results, by id: what machines and clocks add is left out."""
    found = {}
    for row in store.rows():
        said = row.model_dump(mode="json", exclude={"provenance", "log_tail", "study"})
        metrics = said["metrics"].items()
        said["metrics"] = {k: v for k, v in metrics if not any(part in k for part in TIMED)}
        found[row.id] = said
    return found


def restarts(store: Store) -> int:
    """How often the jobs of the rows had been requeued, at most."""
    return max(row.provenance["requeues"] for row in store.rows())
